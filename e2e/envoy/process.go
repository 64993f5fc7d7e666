package envoy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Config says how to run an Envoy.
type Config struct {
	// Bootstrap is the bootstrap as JSON. Without "admin" in it, the admin port is one of 127.0.0.1 that is free.
	Bootstrap []byte
	// Binary to run; "": what [Binary] returns.
	Binary string
	// Concurrency is the number of workers; 0: 1, so that what is measured is one core's work.
	Concurrency int
	// LogLevel; "": "warning".
	LogLevel string
	// ComponentLogLevel has other levels for some loggers, such as "misc:error"; "": none.
	ComponentLogLevel string
	// Dir is where the bootstrap and the log are written; "": a temporary directory that Stop removes.
	Dir string
	// Run starts the command; nil: (*exec.Cmd).Start. It is the place to choose processors.
	Run func(*exec.Cmd) error
	// ReadyTimeout is how long Envoy may take until it is ready; 0: 60 s, which 10,000 clusters need on a slow machine.
	ReadyTimeout time.Duration
}

// Process is a running Envoy. Its methods may be called from any goroutine.
type Process struct {
	cmd     *exec.Cmd
	dir     string
	ownsDir bool
	admin   string
	exited  chan struct{} // closed when the process has ended
	err     error         // of Wait; read it after exited
}

// Start runs an Envoy and returns when it is ready: its clusters and listeners are in force. The error of one that ends before
// holds the end of its log.
func Start(ctx context.Context, c Config) (*Process, error) {
	if c.Binary == "" {
		var err error
		if c.Binary, err = Binary(ctx); err != nil {
			return nil, err
		}
	}
	p := &Process{dir: c.Dir, exited: make(chan struct{})}
	if p.dir == "" {
		var err error
		if p.dir, err = os.MkdirTemp("", "envoy-"); err != nil {
			return nil, err
		}
		p.ownsDir = true
	}
	if err := p.start(c); err != nil {
		p.removeDir()
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, orDefault(c.ReadyTimeout, time.Minute))
	defer cancel()
	if err := p.awaitReady(wait); err != nil {
		err = fmt.Errorf("envoy: %w\n%s", err, p.logTail(4096))
		p.kill()
		return nil, err
	}
	return p, nil
}

func (p *Process) start(c Config) error {
	bootstrap, err := withAdmin(c.Bootstrap)
	if err != nil {
		return err
	}
	config := filepath.Join(p.dir, "bootstrap.json")
	if err := os.WriteFile(config, bootstrap, 0o600); err != nil {
		return err
	}
	log, err := os.Create(p.logFile())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()                                    // the child has its own
	p.cmd = exec.Command(c.Binary, "-c", config, "--disable-hot-restart", //nolint:gosec,noctx // it outlives ctx; Stop ends it
		"--concurrency", strconv.Itoa(orDefault(c.Concurrency, 1)), "--log-level", orDefault(c.LogLevel, "warning"),
		"--admin-address-path", p.adminFile())
	if c.ComponentLogLevel != "" {
		p.cmd.Args = append(p.cmd.Args, "--component-log-level", c.ComponentLogLevel)
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// An Envoy does not outlive a test that was killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	run := c.Run
	if run == nil {
		run = (*exec.Cmd).Start
	}
	if err := run(p.cmd); err != nil {
		return fmt.Errorf("envoy: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return nil
}

// withAdmin adds an admin port to a bootstrap that has none.
func withAdmin(bootstrap []byte) ([]byte, error) {
	var b map[string]json.RawMessage
	if err := json.Unmarshal(bootstrap, &b); err != nil {
		return nil, fmt.Errorf("envoy: the bootstrap is not a JSON object: %w", err)
	}
	if _, ok := b["admin"]; !ok {
		b["admin"] = json.RawMessage(`{"address":{"socket_address":{"address":"127.0.0.1","port_value":0}}}`)
	}
	return json.Marshal(b)
}

func (p *Process) awaitReady(ctx context.Context) error {
	for {
		if text, err := os.ReadFile(p.adminFile()); err == nil && len(text) > 0 {
			p.admin = strings.TrimSpace(string(text))
			if body, err := p.Admin(ctx, "GET", "/ready"); err == nil && strings.TrimSpace(string(body)) == "LIVE" {
				return nil
			}
		}
		select {
		case <-p.exited:
			return fmt.Errorf("it has ended: %w", cmpErr(p.err))
		case <-ctx.Done():
			return fmt.Errorf("it is not ready: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func cmpErr(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// Admin asks the admin port, e.g. GET /stats, and returns the body of a 200.
func (p *Process) Admin(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.admin+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // read to its end
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, body)
	}
	return body, nil
}

// ListenerAddress returns where a listener is bound, for one with port 0.
func (p *Process) ListenerAddress(ctx context.Context, name string) (string, error) {
	body, err := p.Admin(ctx, "GET", "/listeners?format=json")
	if err != nil {
		return "", err
	}
	var list struct {
		Listeners []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return "", err
	}
	for _, l := range list.Listeners {
		if l.Name == name {
			return net.JoinHostPort(l.Address.Socket.Address, strconv.Itoa(l.Address.Socket.Port)), nil
		}
	}
	return "", fmt.Errorf("envoy has no listener %q", name)
}

// AdminAddress is the admin port's host:port.
func (p *Process) AdminAddress() string { return p.admin }

// PID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has ended, by whomever.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Log is what Envoy has written so far.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Stop ends Envoy: SIGTERM, and SIGKILL if that takes longer than 5 s. It returns an error if Envoy had ended before, which
// it never does of itself.
func (p *Process) Stop() error {
	var err error
	select {
	case <-p.exited:
		err = fmt.Errorf("envoy had ended: %w\n%s", cmpErr(p.err), p.logTail(4096))
	default:
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has just ended
		select {
		case <-p.exited:
		case <-time.After(5 * time.Second):
		}
	}
	p.kill()
	return err
}

func (p *Process) kill() {
	_ = p.cmd.Process.Kill() // fails if it has ended
	<-p.exited
	p.removeDir()
}

func (p *Process) removeDir() {
	if p.ownsDir {
		_ = os.RemoveAll(p.dir) // the system cleans its temporary directory
	}
}

func (p *Process) logFile() string   { return filepath.Join(p.dir, "envoy.log") }
func (p *Process) adminFile() string { return filepath.Join(p.dir, "admin-address") }

func (p *Process) logTail(n int) string {
	text := []byte(p.Log())
	if len(text) <= n {
		return string(text)
	}
	text = text[len(text)-n:]
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	return "…\n" + string(text)
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
