package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/h1"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// Host is the runtime state of one endpoint.
type Host struct {
	Key     string
	Stats   HostStats
	cluster *Cluster
	born    time.Time // for slow start
	ep      atomic.Pointer[program.Endpoint]
	active  atomic.Int64 // requests and TCP sessions in flight
	outlier outlier
	used    atomic.Int64 // unix nanoseconds of the last acquisition, for hosts made on demand

	h2 *Pool // made when first needed, under mu

	mu     sync.Mutex
	idle   []*conn1 // HTTP/1.1 connections without a request; the most recently used last
	open   int      // HTTP/1.1 connections, busy ones included
	closed bool
}

// HostStats are counters that /clusters shows per endpoint.
type HostStats struct {
	RequestsTotal   atomic.Uint64
	RequestsSuccess atomic.Uint64
	RequestsError   atomic.Uint64
	RequestsTimeout atomic.Uint64
	ConnectTotal    atomic.Uint64
	ConnectFail     atomic.Uint64
	ConnectActive   atomic.Int64
}

// Endpoint returns the endpoint's configuration.
func (h *Host) Endpoint() *program.Endpoint { return h.ep.Load() }

// Cluster returns the cluster that the host belongs to.
func (h *Host) Cluster() *Cluster { return h.cluster }

// Active is the number of requests and TCP sessions in flight.
func (h *Host) Active() int64 { return h.active.Load() }

// Display is the endpoint as logs print it.
func (h *Host) Display() string { return h.Endpoint().Display }

func (h *Host) usable() bool {
	e := h.Endpoint()
	return !h.Ejected() && (e.Health == program.Healthy || e.Health == program.Degraded) && e.Refused == nil
}

// load is what LEAST_REQUEST compares: requests in flight per weight, the one to be sent included.
func (h *Host) load() float64 {
	return float64(h.active.Load()+1) / float64(max(h.Endpoint().Weight, 1))
}

// setEndpoint adopts a new configuration. When the way to the endpoint has changed, pooled connections go.
func (h *Host) setEndpoint(ep *program.Endpoint) {
	old := h.ep.Swap(ep)
	if old != nil && hopsKey(old.Hops) != hopsKey(ep.Hops) {
		h.mu.Lock()
		h.dropIdleLocked()
		h.mu.Unlock()
	}
}

// forgetAfter is how long an ORIGINAL_DST host without traffic is remembered; Envoy's cleanup_interval, 60 s in istiod's config.
const forgetAfter = time.Minute

func (h *Host) forgettable(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.active.Load() == 0 && h.open == 0 && now.Sub(time.Unix(0, h.used.Load())) > forgetAfter
}

// conn1 is a pooled HTTP/1.1 connection.
type conn1 struct {
	h1    *h1.ClientConn
	conn  message.Conn
	since time.Time // the sweep that saw it idle first; zero: none yet
	born  time.Time
	count uint32 // requests so far
}

// Lease is an upstream stream for one exchange. Release it exactly once, when the exchange is over either way.
type Lease struct {
	Stream message.Stream
	Host   *Host
	// Fresh tells that the connection was made for this exchange: a failure on it is a failure to connect rather than the
	// race of a kept connection that the backend closes.
	Fresh bool

	c *conn1
}

// Begin counts a request or session at h; End takes it back.
func (h *Host) Begin() {
	h.active.Add(1)
	h.cluster.Stats.RequestsActive.Add(1)
	h.cluster.Stats.RequestsTotal.Add(1)
	h.Stats.RequestsTotal.Add(1)
}

// End is the end of what Begin counted.
func (h *Host) End() {
	h.active.Add(-1)
	h.cluster.Stats.RequestsActive.Add(-1)
}

// TryAcquire returns a lease on a connection that is there already, ok false if there is none: then Acquire dials.
func (h *Host) TryAcquire(downstream message.Version) (l Lease, ok bool) {
	if h.wantsHTTP2(downstream) {
		if pool := h.pool2(); pool != nil {
			if s := pool.tryOpen(h.Key); s != nil {
				return Lease{Stream: s, Host: h}, true
			}
		}
		return Lease{}, false
	}
	h.mu.Lock()
	for n := len(h.idle); n > 0; n = len(h.idle) {
		c := h.idle[n-1]
		h.idle[n-1] = nil
		h.idle = h.idle[:n-1]
		if c.h1.Reusable() {
			h.mu.Unlock()
			return Lease{Stream: c.h1.Stream(), Host: h, c: c}, true
		}
		h.open--
		h.connClosed()
		c.conn.Reset(message.NoError)
	}
	h.mu.Unlock()
	return Lease{}, false
}

// Acquire makes a connection, or waits for room on one that multiplexes, and returns a stream on it. With max_connections open, the
// request waits for one of them. Errors are *ConnectError, and ErrOverflow when too many wait already.
func (h *Host) Acquire(ctx context.Context, downstream message.Version) (Lease, error) {
	h.used.Store(time.Now().UnixNano())
	l, err := h.acquire(ctx, downstream)
	if !errors.Is(err, errNoSlot) {
		return l, err
	}
	return h.cluster.wait(ctx, h, func() (Lease, error) {
		if l, ok := h.TryAcquire(downstream); ok {
			return l, nil
		}
		return h.acquire(ctx, downstream)
	})
}

func (h *Host) acquire(ctx context.Context, downstream message.Version) (Lease, error) {
	cfg := h.cluster.Config()
	if h.wantsHTTP2(downstream) {
		s, err := h.pool2().open(ctx, h.Key, h.dial, poolConfig{http2: cfg.HTTP2, idle: cfg.IdleTimeout, maxRequests: cfg.MaxRequests, closed: h.connClosed})
		if err != nil {
			return Lease{}, err
		}
		return Lease{Stream: s, Host: h, Fresh: true}, nil
	}
	conn, err := h.dial(ctx)
	if err != nil {
		return Lease{}, err
	}
	h.mu.Lock()
	h.open++
	h.mu.Unlock()
	c := &conn1{h1: h1.NewClientConn(conn, h1.Options{}), conn: conn, born: time.Now()}
	return Lease{Stream: c.h1.Stream(), Host: h, Fresh: true, c: c}, nil
}

// dial makes a connection for the pool; connClosed is due when it ends. errNoSlot: there are as many as there may be.
func (h *Host) dial(ctx context.Context) (message.Conn, error) {
	if !h.takeConnection() {
		return nil, errNoSlot
	}
	conn, err := h.connect(ctx, h.cluster.Config())
	if err != nil {
		h.connClosed()
		return nil, err
	}
	h.Stats.ConnectTotal.Add(1)
	h.cluster.Stats.ConnectionsTotal.Add(1)
	return conn, nil
}

// Release gives the connection back to the pool if it can carry another request, and closes it if not.
func (l *Lease) Release() {
	c := l.c
	if c == nil { // HTTP/2: the stream ends by itself, and leaves room for another
		l.Host.cluster.wake(l.Host)
		return
	}
	l.c = nil
	h := l.Host
	cfg := h.cluster.Config()
	c.count++
	keep := c.h1.Reusable() &&
		(cfg.MaxRequests == 0 || c.count < cfg.MaxRequests) &&
		(cfg.MaxConnectionDuration == 0 || time.Since(c.born) < cfg.MaxConnectionDuration)
	h.mu.Lock()
	if keep && !h.closed {
		c.since = time.Time{} // the next sweep notes the time: reading the clock costs more than all the rest here
		h.idle = append(h.idle, c)
		h.mu.Unlock()
		h.cluster.wake(h)
		return
	}
	h.open--
	h.mu.Unlock()
	h.connClosed()
	if c.h1.Reusable() {
		_ = c.conn.Close() // the exchange is over; a failure to close has nobody to go to
	} else {
		c.conn.Reset(message.Cancel)
	}
}

func (h *Host) wantsHTTP2(downstream message.Version) bool {
	switch h.cluster.Config().Protocol {
	case program.UpstreamHTTP2:
		return true
	case program.UseDownstream:
		return downstream == message.HTTP2
	default:
		return false
	}
}

func (h *Host) pool2() *Pool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.h2 == nil {
		h.h2 = newPool(h.cluster.m)
		if h.closed {
			h.h2.close()
		}
	}
	return h.h2
}

// connClosed takes back what takeConnection counted.
func (h *Host) connClosed() {
	h.Stats.ConnectActive.Add(-1)
	h.cluster.Stats.ConnectionsActive.Add(-1)
	h.cluster.wake(h)
}

// defaultIdle is Envoy's idle timeout of an upstream connection.
const defaultIdle = time.Hour

func (h *Host) sweep(now time.Time) {
	idle := h.cluster.Config().IdleTimeout
	if idle == 0 {
		idle = defaultIdle
	}
	h.mu.Lock()
	var old []*conn1
	k := 0
	for _, c := range h.idle {
		if c.since.IsZero() {
			c.since = now
		}
		if now.Sub(c.since) > idle || !c.h1.Reusable() {
			old = append(old, c)
			continue
		}
		h.idle[k] = c
		k++
	}
	clear(h.idle[k:])
	h.idle = h.idle[:k]
	h.open -= len(old)
	pool := h.h2
	h.mu.Unlock()
	for _, c := range old {
		h.connClosed()
		_ = c.conn.Close()
	}
	if pool != nil {
		pool.sweep(now)
	}
}

// dropIdleLocked closes connections that nobody uses.
func (h *Host) dropIdleLocked() {
	for i, c := range h.idle {
		h.idle[i] = nil
		h.open--
		h.connClosed()
		go func() { _ = c.conn.Close() }() // may flush; not under the lock
	}
	h.idle = h.idle[:0]
	if h.h2 != nil {
		h.h2.drain()
	}
}

// close ends what is idle; requests in flight finish, and their connections are not kept.
func (h *Host) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.dropIdleLocked()
}
