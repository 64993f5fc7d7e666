package hbone

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/h2"
)

// Acceptor is the HBONE port: it turns TCP connections into HTTP/2 connections whose streams go to Handler.
type Acceptor struct {
	// TLS returns the configuration to accept a connection with; it is asked for each. An error closes the connection.
	TLS func() (*tls.Config, error)
	// H2 returns the options of a connection.
	H2 func() h2.Options
	// Handler serves one stream. conn is the same for all streams of a connection.
	Handler func(s *h2.Stream, conn *Conn)
	// Opened fills conn.Data when a connection has passed its handshake; nil: nobody does.
	Opened func(conn *Conn)
	// Parked is told how many idle tunnels have just given their goroutines back; nil: nobody is.
	Parked func(n int)
	Logger *slog.Logger

	Stats AcceptStats

	mu       sync.Mutex
	conns    map[*Conn]struct{}
	draining bool
	grace    time.Duration
}

// AcceptStats count connections; Active is a gauge.
type AcceptStats struct {
	Accepted        atomic.Uint64
	Active          atomic.Int64
	HandshakeFailed atomic.Uint64
}

// Conn is an accepted HBONE connection.
type Conn struct {
	ID    uint64
	TLS   tls.ConnectionState
	Local net.Addr
	// Remote is the client: a pod, whose certificate the connection showed.
	Remote net.Addr
	// Data is the owner's.
	Data any

	h2 *h2.Conn
}

// handshakeTimeout bounds TCP accept to TLS finished; ztunnel allows its connections 10 s in all.
const handshakeTimeout = 10 * time.Second

// Serve accepts connections from l until l is closed or ctx ends.
func (a *Acceptor) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	done := make(chan struct{})
	defer close(done)
	go a.park(done)
	var pause time.Duration
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Out of file descriptors, most likely: connections that end make room.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			a.Logger.Warn("accept failed", "listener", l.Addr().String(), "error", err, "pause", pause)
			time.Sleep(pause)
			continue
		}
		pause = 0
		go a.serve(c)
	}
}

func (a *Acceptor) serve(raw net.Conn) {
	id := a.Stats.Accepted.Add(1)
	cfg, err := a.TLS()
	if err != nil {
		a.Logger.Warn("connection refused", "remote", raw.RemoteAddr().String(), "error", err)
		a.Stats.HandshakeFailed.Add(1)
		_ = raw.Close()
		return
	}
	c := TLSServer(raw, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	err = c.HandshakeContext(ctx)
	cancel()
	if err != nil {
		a.Logger.Debug("TLS handshake failed", "remote", raw.RemoteAddr().String(), "error", err)
		a.Stats.HandshakeFailed.Add(1)
		_ = raw.Close()
		return
	}
	conn := &Conn{ID: id, TLS: c.ConnectionState(), Local: raw.LocalAddr(), Remote: raw.RemoteAddr()}
	if a.Opened != nil {
		a.Opened(conn)
	}
	var late sync.Once // a connection that came during the drain: says goodbye with its first stream
	var draining bool
	var grace time.Duration
	conn.h2 = h2.NewServer(c, a.H2(), func(s *h2.Stream) {
		if draining {
			late.Do(func() { conn.h2.Shutdown(grace) })
		}
		a.Handler(s, conn)
	})

	a.mu.Lock()
	if a.conns == nil {
		a.conns = map[*Conn]struct{}{}
	}
	a.conns[conn] = struct{}{}
	draining, grace = a.draining, a.grace
	a.mu.Unlock()
	a.Stats.Active.Add(1)
	defer func() {
		a.mu.Lock()
		delete(a.conns, conn)
		a.mu.Unlock()
		a.Stats.Active.Add(-1)
	}()
	// One that came while draining is not told at once: whoever connects has a request to send, and GOAWAY before its first stream
	// would lose it (ztunnel does not retry).
	if err := conn.h2.Serve(); err != nil {
		a.Logger.Debug("HBONE connection ended", "remote", raw.RemoteAddr().String(), "error", err)
	}
}

// parkInterval is how often idle tunnels are looked at: one that is idle for one to two of them gives its goroutine back. A
// client with a request every second is not worth the trouble, one that is quiet for longer pays some microseconds.
const parkInterval = time.Second

func (a *Acceptor) park(done chan struct{}) {
	t := time.NewTicker(parkInterval)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
			n := 0
			for _, c := range a.list() {
				n += c.h2.ParkIdle()
			}
			if n > 0 && a.Parked != nil {
				a.Parked(n)
			}
		}
	}
}

// list returns the connections.
func (a *Acceptor) list() []*Conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	conns := make([]*Conn, 0, len(a.conns))
	for c := range a.conns {
		conns = append(conns, c)
	}
	return conns
}

// Drain sends GOAWAY on every connection, those to come included. Streams in flight may go on for grace.
func (a *Acceptor) Drain(grace time.Duration) {
	a.mu.Lock()
	a.draining, a.grace = true, grace
	a.mu.Unlock()
	for _, c := range a.list() {
		c.h2.Shutdown(grace)
	}
}

// Streams is the number of open streams over all connections.
func (a *Acceptor) Streams() int {
	n := 0
	for _, c := range a.list() {
		n += c.h2.ActiveStreams()
	}
	return n
}

// Close ends all connections at once.
func (a *Acceptor) Close() {
	for _, c := range a.list() {
		c.h2.Close(nil)
	}
}
