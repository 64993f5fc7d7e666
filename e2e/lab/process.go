package lab

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a part of the control plane that runs; what it prints goes to a
// file.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
}

// logs is where all processes of the control plane write.
var logs = filepath.Join(state, "logs")

// start runs a program. Its log is continued when it is started again.
func start(name string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, log: filepath.Join(logs, name+".log"), cmd: cmd, done: make(chan struct{})}
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Start()
	if closeErr := out.Close(); err == nil { // the process has its own copy
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait() // that it has ended is all that matters
		close(p.done)
	}()
	return p, nil
}

// kill ends it without warning and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// stop asks it to end, and insists after a while.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.kill()
	}
}

// waitHTTP waits until url answers 200.
func (p *process) waitHTTP(client *http.Client, url string, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		err := get(client, url)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after %v: %w (log: %s)", p.name, limit, err, p.tail())
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s has ended: %s", p.name, p.tail())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func get(client *http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	if err := answer.Body.Close(); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// tail returns the last lines of the log.
func (p *process) tail() string { return tail(p.log, 3000) }

func tail(file string, n int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	if len(data) > n {
		data = data[len(data)-n:]
	}
	return string(data)
}
