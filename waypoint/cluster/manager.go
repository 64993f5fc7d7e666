package cluster

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// Options are what a Manager needs from the rest of the process.
type Options struct {
	// ClientTLS makes the tls.Config for an upstream context. It is asked once per connection; certificates and roots are
	// those in force at that moment.
	ClientTLS func(*program.ClientTLS) (*tls.Config, error)
	// Dialer dials TCP; nil: a net.Dialer with keep-alive.
	Dialer interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	}
	// Resolver looks names up for DNS clusters; nil: net.DefaultResolver.
	Resolver Resolver
	// MaxStreamWindow and others of the HTTP/2 connections come with each hop; Tune adjusts what all have in common.
	Logger *slog.Logger
	H2     H2Options
}

// Manager holds the runtime state of all clusters. All methods may be called from any goroutine.
type Manager struct {
	opts    Options
	tunnels *Pool // HTTP/2 connections that carry CONNECT tunnels, by hops

	mu       sync.Mutex
	clusters atomic.Pointer[map[string]*Cluster]
	closed   chan struct{}
}

// NewManager makes a Manager without clusters. Close it to end its connections and goroutines.
func NewManager(o Options) *Manager {
	if o.Dialer == nil {
		// 15 s is Go's and Linux-friendly; a dead pod's tunnels are found out earlier, by HTTP/2 pings.
		o.Dialer = &net.Dialer{KeepAlive: 15 * time.Second}
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	m := &Manager{opts: o, closed: make(chan struct{})}
	m.tunnels = newPool(m)
	m.clusters.Store(&map[string]*Cluster{})
	go m.sweep()
	return m
}

// Get returns the state of a cluster; nil: the current configuration has none of that name.
func (m *Manager) Get(name string) *Cluster { return (*m.clusters.Load())[name] }

// All returns the current clusters by name; the map must not be changed.
func (m *Manager) All() map[string]*Cluster { return *m.clusters.Load() }

// TunnelConns is the number of open HBONE connections to endpoints.
func (m *Manager) TunnelConns() int { return m.tunnels.Conns() }

// Update adopts a Program's clusters: known ones get the new configuration and keep their state. Clusters that the Program does
// not have stay until Prune, because requests that began with the Program before may still be on their way to them.
func (m *Manager) Update(p *program.Program) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.clusters.Load()
	next := make(map[string]*Cluster, max(len(p.Clusters), len(old)))
	for name, c := range old {
		next[name] = c
	}
	for name, cfg := range p.Clusters {
		c := next[name]
		if c == nil {
			c = newCluster(m, name)
			next[name] = c
		}
		c.update(cfg)
	}
	m.clusters.Store(&next)
}

// Prune drops the clusters that p does not have, with their idle connections; requests in flight finish. Call it some time
// after p has replaced the Program before it.
func (m *Manager) Prune(p *program.Program) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.clusters.Load()
	next := make(map[string]*Cluster, len(p.Clusters))
	for name, c := range old {
		if p.Clusters[name] != nil {
			next[name] = c
		}
	}
	if len(next) == len(old) {
		return
	}
	m.clusters.Store(&next)
	for name, c := range old {
		if next[name] == nil {
			c.close()
		}
	}
}

// Close ends all connections.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.closed:
		return
	default:
	}
	close(m.closed)
	for _, c := range *m.clusters.Load() {
		c.close()
	}
	m.tunnels.close()
}

// sweepInterval is how often idle connections are looked at. Idle timeouts are minutes to an hour, so an overshoot of
// this much does not matter.
const sweepInterval = 10 * time.Second

func (m *Manager) sweep() {
	t := time.NewTicker(sweepInterval)
	defer t.Stop()
	for {
		select {
		case <-m.closed:
			return
		case now := <-t.C:
			for _, c := range m.All() {
				c.sweep(now)
			}
			m.tunnels.sweep(now)
		}
	}
}
