package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// maxStreams is how many streams a pool puts on one connection: what Envoy and ztunnel do, and what both advertise at least.
const maxStreams = 100

// H2Options is what the HTTP/2 connections of all pools have in common.
type H2Options = h2.Options

// Pool shares HTTP/2 connections by key. A connection whose output is blocked, that has maxStreams streams, or that got a GOAWAY
// takes no new stream; when none is left another is dialled, once for all who wait, and never under the lock.
type Pool struct {
	m *Manager

	mu     sync.Mutex
	groups map[string]*group
	closed bool
}

type group struct {
	conns    []*poolConn
	dialling int // connections being made
	waiters  []chan struct{}
}

type poolConn struct {
	*h2.Conn
	opened uint32 // streams so far
	cfg    poolConfig
	wear   wear
}

// maxWear is how many more streams than have completed may be reset on a connection before it takes no new ones. Peers close a
// connection on which too many are (CVE-2023-44487; Envoy and this proxy: 500), and with it the requests of everybody: a client that
// gives up all the time must not get that far on a connection that it shares. The streams that are open then may be reset besides.
const maxWear = 200

// wear is what a peer that counts resets holds against a connection; each stream that completes takes one off, as with our own.
type wear struct {
	resets, completed int64 // as of the last look
	debt              int64
	out               bool // over maxWear: the connection ends with the streams that it has
}

// over takes new totals and tells whether there were too many resets.
func (w *wear) over(resets, completed int64) bool {
	w.debt = max(0, w.debt+resets-w.resets-(completed-w.completed))
	w.resets, w.completed = resets, completed
	return w.debt > maxWear
}

// worn tells whether the connection has had too many resets, and then lets it end.
func (c *poolConn) worn(active int) bool {
	if c.wear.out {
		return true
	}
	resets, ended := c.Stats().ResetsSent, int64(c.opened)-int64(active)
	if c.wear.over(resets, max(ended, resets)-resets) {
		c.wear.out = true
		go c.Shutdown(drainGrace) // takes it out of the pool, whose lock is held here
	}
	return c.wear.out
}

// poolConfig is what a connection is made with.
type poolConfig struct {
	http2       program.HTTP2
	idle        time.Duration
	maxRequests uint32
	closed      func()
}

func newPool(m *Manager) *Pool { return &Pool{m: m, groups: map[string]*group{}} }

// tryOpen opens a stream on a connection that is there.
func (p *Pool) tryOpen(key string) *h2.Stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.groups[key]; g != nil {
		return g.tryOpenLocked()
	}
	return nil
}

func (g *group) tryOpenLocked() *h2.Stream {
	for _, c := range g.conns {
		active := c.ActiveStreams()
		if c.cfg.maxRequests > 0 && c.opened >= c.cfg.maxRequests || active >= maxStreams || c.worn(active) {
			continue
		}
		if s, err := c.Open(); err == nil {
			c.opened++
			return s
		}
	}
	return nil
}

// open opens a stream, dialling if there is no room. Errors are what dial returned, or ctx's.
func (p *Pool) open(ctx context.Context, key string, dial func(context.Context) (message.Conn, error), cfg poolConfig) (*h2.Stream, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, &ConnectError{Hop: "pool", Err: errors.New("shut down")}
		}
		g := p.groups[key]
		if g == nil {
			g = &group{}
			p.groups[key] = g
		}
		if s := g.tryOpenLocked(); s != nil {
			p.mu.Unlock()
			return s, nil
		}
		// Who comes when as many connections are being made as all that wait can fill, waits for one of them.
		if g.dialling*maxStreams > len(g.waiters)+g.dialling && cfg.maxRequests != 1 {
			ready := make(chan struct{})
			g.waiters = append(g.waiters, ready)
			p.mu.Unlock()
			select {
			case <-ready:
				continue
			case <-ctx.Done():
				return nil, &ConnectError{Hop: "pool", Err: context.Cause(ctx), Timeout: errors.Is(ctx.Err(), context.DeadlineExceeded)}
			}
		}
		g.dialling++
		p.mu.Unlock()

		c, err := p.connect(ctx, key, dial, cfg)
		var s *h2.Stream
		p.mu.Lock()
		g.dialling--
		if err == nil {
			if p.closed {
				err = &ConnectError{Hop: "pool", Err: errors.New("shut down")}
			} else if s, err = c.Open(); err == nil { // else it has ended meanwhile, and nobody would take it out again
				g.conns = append(g.conns, c)
				c.opened++
			}
		}
		waiters := g.waiters
		g.waiters = nil
		p.mu.Unlock()
		for _, w := range waiters {
			close(w) // they look again: for room on the new connection, or to dial themselves after a failure
		}
		if c != nil && err != nil {
			c.Close(nil)
		}
		return s, err
	}
}

// connect makes a connection and starts its reader.
func (p *Pool) connect(ctx context.Context, key string, dial func(context.Context) (message.Conn, error), cfg poolConfig) (*poolConn, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	o := p.m.opts.H2
	o.InitialWindow = cfg.http2.InitialStreamWindow
	o.ConnWindow = cfg.http2.InitialConnectionWindow
	o.KeepaliveInterval = cfg.http2.KeepaliveInterval
	o.KeepaliveTimeout = cfg.http2.KeepaliveTimeout
	o.IdleTimeout = cfg.idle
	if o.IdleTimeout == 0 {
		o.IdleTimeout = defaultIdle
	}
	c := &poolConn{cfg: cfg}
	o.OnGoAway = func(*h2.Conn) { p.remove(key, c) }
	c.Conn = h2.NewClient(conn, o)
	go func() {
		_ = c.Serve() // the streams on it learn of the error
		p.remove(key, c)
		if cfg.closed != nil {
			cfg.closed()
		}
	}()
	return c, nil
}

func (p *Pool) remove(key string, c *poolConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.groups[key]
	if g == nil {
		return
	}
	for i, e := range g.conns {
		if e == c {
			g.conns = append(g.conns[:i:i], g.conns[i+1:]...)
			break
		}
	}
	if len(g.conns) == 0 && g.dialling == 0 && len(g.waiters) == 0 {
		delete(p.groups, key)
	}
}

// sweep forgets groups without connections; the connections' own idle timeout closes them.
func (p *Pool) sweep(time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, g := range p.groups {
		if len(g.conns) == 0 && g.dialling == 0 && len(g.waiters) == 0 {
			delete(p.groups, key)
		}
	}
}

// drain makes the connections take no new streams and end with those they have.
func (p *Pool) drain() {
	p.mu.Lock()
	groups := p.groups
	p.groups = map[string]*group{}
	p.mu.Unlock()
	for _, g := range groups {
		for _, c := range g.conns {
			go c.Shutdown(drainGrace)
		}
	}
}

// drainGrace is how long streams on a drained upstream connection may go on: an hour, like an idle connection; those that are
// still open then are of tunnels that nobody closes.
const drainGrace = time.Hour

// close ends all connections.
func (p *Pool) close() {
	p.mu.Lock()
	p.closed = true
	groups := p.groups
	p.groups = map[string]*group{}
	p.mu.Unlock()
	for _, g := range groups {
		for _, c := range g.conns {
			c.Close(nil)
		}
	}
}

// Conns is the number of open connections, for /stats.
func (p *Pool) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, g := range p.groups {
		n += len(g.conns)
	}
	return n
}
