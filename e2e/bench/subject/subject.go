package subject

import (
	"context"
	"net/netip"
	"os/exec"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/bench/mesh"
	"github.com/gowaypoint/gowaypoint/e2e/envoy"
)

// Setup is what a proxy needs.
type Setup struct {
	Config   mesh.Config
	Identity *mesh.Identity // of the waypoint
	RootPEM  []byte
	Client   netip.Addr // the address that the load comes from
	CPUs     []int      // processors of the proxy; empty: all
	LogLevel string     // of the proxy's own words; "": warnings
}

// run starts a command on the proxy's processors.
func (s Setup) run(cmd *exec.Cmd) error { return StartOn(s.CPUs, cmd) }

// workers is how many threads the proxy shall use.
func (s Setup) workers() int { return max(len(s.CPUs), 1) }

// Proxy is a running subject.
type Proxy interface {
	PID() int
	// Exited is closed when the process has ended.
	Exited() <-chan struct{}
	// Log is what it has written.
	Log() string
	// Stop ends it; an error if it had ended before.
	Stop() error
}

// Profiler is a subject that can be looked into.
type Profiler interface {
	// Profile returns a pprof profile of some kind ("profile", for which length counts, "heap", …).
	Profile(kind string, length time.Duration) ([]byte, error)
}

// Subject starts proxies of one kind.
type Subject struct {
	Name  string
	Start func(context.Context, Setup) (Proxy, error)
}

// Envoy is the stock Envoy. binary "": what envoy.Binary returns.
func Envoy(binary string) Subject {
	return Subject{Name: "envoy", Start: func(ctx context.Context, s Setup) (Proxy, error) {
		r, err := s.Config.Resources()
		if err != nil {
			return nil, err
		}
		bootstrap, err := mesh.Envoy(r, s.Identity)
		if err != nil {
			return nil, err
		}
		return envoy.Start(ctx, envoy.Config{
			Bootstrap: bootstrap, Binary: binary, Concurrency: s.workers(), LogLevel: s.LogLevel, Run: s.run,
		})
	}}
}
