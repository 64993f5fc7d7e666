package reference

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
	"github.com/gowaypoint/gowaypoint/e2e/envoy"
)

// Envoy is a running reference. Ask may be called from many goroutines at once, Load only while nobody asks.
type Envoy struct {
	process    *envoy.Process
	dir        string
	ports      map[string]uint16 // by the listener's name
	generation int
	ca         *authority

	mu      sync.Mutex
	clients map[string]tls.Certificate
}

// Start runs an Envoy that has no sets yet.
func Start(ctx context.Context) (e *Envoy, err error) {
	dir, err := os.MkdirTemp("", "differential-")
	if err != nil {
		return nil, err
	}
	e = &Envoy{dir: dir, ports: map[string]uint16{}, clients: map[string]tls.Certificate{}}
	defer func() {
		if err != nil {
			e.Stop()
		}
	}()
	if e.ca, err = newAuthority(); err != nil {
		return nil, err
	}
	if err := e.ca.write(dir); err != nil {
		return nil, err
	}
	if err := e.writeRoutes(nil); err != nil {
		return nil, err
	}
	config, err := bootstrap(e.routes(), dir)
	if err != nil {
		return nil, err
	}
	if e.process, err = envoy.Start(ctx, envoy.Config{Bootstrap: config, ComponentLogLevel: "misc:error"}); err != nil {
		return nil, err
	}
	for i := range pair.Listeners {
		if pair.Listeners[i].Pipe {
			continue
		}
		if err := e.lookUp(ctx, pair.Listeners[i].Name); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (e *Envoy) lookUp(ctx context.Context, listener string) error {
	text, err := e.process.ListenerAddress(ctx, listener)
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddrPort(text)
	e.ports[listener] = addr.Port()
	return err
}

// Stop ends the Envoy.
func (e *Envoy) Stop() {
	if e.process != nil {
		_ = e.process.Stop() // if it had ended before, whoever asked it has said so
	}
	_ = os.RemoveAll(e.dir) // the system cleans its temporary directory
}

// Port of a listener.
func (e *Envoy) Port(l *pair.Listener) uint16 { return e.ports[l.Name] }

func (e *Envoy) routes() string { return filepath.Join(e.dir, "routes.pb") }

// writeRoutes puts a new file in the place of the old one, in one step.
func (e *Envoy) writeRoutes(sets []*pair.Set) error {
	e.generation++
	b, err := routeFile(sets, e.generation)
	if err != nil {
		return err
	}
	tmp := filepath.Join(e.dir, "next.pb")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, e.routes())
}

// RefusedError says that Envoy does not take a configuration, and why.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "envoy refuses the sets:\n" + e.Reason }

// Load gives Envoy other sets, and returns when they are in force. A [RefusedError] has Envoy's reason for not taking them.
func (e *Envoy) Load(ctx context.Context, sets []*pair.Set) error {
	logged := len(e.process.Log())
	if err := e.writeRoutes(sets); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for i := range pair.Listeners {
		if pair.Listeners[i].TLS {
			continue // reads the same routes
		}
		if err := e.awaitGeneration(ctx, &pair.Listeners[i], logged); err != nil {
			return err
		}
	}
	return nil
}

// awaitGeneration asks a listener until it knows the route that names the generation, or Envoy has logged that it does not
// take it.
func (e *Envoy) awaitGeneration(ctx context.Context, l *pair.Listener, logged int) error {
	loopback := netip.MustParseAddr("127.0.0.1")
	probe := &pair.Request{HTTP: true, Method: "GET", Target: "/", Host: "probe"}
	c, err := e.Dial(ctx, &pair.Conn{Listener: l, Source: loopback, Destination: loopback})
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		r, err := c.ask(probe.AppendWire(nil, fmt.Sprint(generationName, e.generation)), false)
		if err != nil {
			return err
		}
		if r.status == 200 {
			return nil
		}
		log := e.process.Log()[logged:]
		if strings.Contains(log, "update rejected") || strings.Contains(log, "threw exception") {
			return &RefusedError{tail(log)}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("envoy has not taken generation %d: %w\n%s", e.generation, ctx.Err(), tail(e.process.Log()))
		}
	}
}

// Log is the end of what Envoy has logged.
func (e *Envoy) Log() string {
	select {
	case <-e.process.Exited():
		return "Envoy has ended " + fmt.Sprint(e.process.Stop()) + tail(e.process.Log())
	default:
		return tail(e.process.Log())
	}
}

func tail(log string) string { return log[max(0, len(log)-4096):] }

// client returns the certificate of a TLS client, made once.
func (e *Envoy) client(p *authz.Peer) (tls.Certificate, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	name := strings.Join(p.URISANs, " ") + "|" + strings.Join(p.DNSSANs, " ") + "|" + p.Subject
	cert, ok := e.clients[name]
	if !ok {
		var err error
		if cert, err = e.ca.client(p); err != nil {
			return cert, err
		}
		e.clients[name] = cert
	}
	return cert, nil
}
