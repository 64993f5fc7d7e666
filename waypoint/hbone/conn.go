package hbone

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/h1"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// FromNetConn makes a message.Conn of a TCP or TLS connection. What the peer does is learnt by reading only: OnReset is never
// called.
func FromNetConn(c net.Conn) message.Conn { return &netConn{Conn: c} }

type netConn struct {
	net.Conn
}

// CloseWrite sends FIN, or close_notify over TLS.
func (c *netConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Close()
}

// Reset makes the kernel send RST, so that the peer does not take a cut-off stream for a finished one.
func (c *netConn) Reset(message.ResetCode) {
	below := c.Conn
	if t, ok := below.(interface{ NetConn() net.Conn }); ok {
		below = t.NetConn()
	}
	switch b := below.(type) {
	case *net.TCPConn:
		_ = b.SetLinger(0) // fails only on a closed socket
		_ = b.Close()
	case *tunnelConn:
		b.Conn.Reset(message.Cancel)
	default:
		_ = below.Close()
	}
}

func (c *netConn) OnReset(func(*message.ResetError)) {}

// Readable tells whether Read would return at once: with bytes, the end or an error. An HTTP/1.1 connection on which something
// came while nobody asked is of no use for another request. Behind TLS any waiting record counts. Nobody may be reading.
func (c *netConn) Readable() bool {
	below := c.Conn
	t, secure := below.(interface{ NetConn() net.Conn })
	if secure {
		below = t.NetConn()
	}
	switch b := below.(type) {
	case *net.TCPConn:
		return h1.Poll(b) || secure && c.holds()
	case *tunnelConn:
		p, ok := b.Conn.(interface{ Readable() bool })
		return !ok || p.Readable() || secure // what TLS holds cannot be asked for here: a deadline would end the tunnel
	}
	return true // not known: do not use it again
}

// holds tells whether the TLS layer has bytes, or records, that it has taken from the socket already. It offers no way to ask but
// to read what must not be waited for. A byte that this takes is lost, but then the connection is not used again.
func (c *netConn) holds() bool {
	if c.SetReadDeadline(time.Unix(1, 0)) != nil {
		return true
	}
	var b [1]byte
	_, err := c.Read(b[:])
	return !errors.Is(err, os.ErrDeadlineExceeded) || c.SetReadDeadline(time.Time{}) != nil
}

// NetConn makes a net.Conn of a tunnel, for crypto/tls inside it. Deadlines: crypto/tls sets them only to interrupt a handshake
// whose context ended, and gets that by a reset.
func NetConn(c message.Conn) net.Conn {
	if n, ok := c.(*netConn); ok {
		return n.Conn
	}
	return &tunnelConn{Conn: c}
}

type tunnelConn struct {
	message.Conn
	noWrite atomic.Bool

	mu    sync.Mutex
	timer *time.Timer
}

func (c *tunnelConn) LocalAddr() net.Addr  { return tunnelAddr{} }
func (c *tunnelConn) RemoteAddr() net.Addr { return tunnelAddr{} }

// SetDeadline resets the tunnel when the time comes: a tunnel that missed a deadline is not used again.
func (c *tunnelConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if t.IsZero() {
		return nil
	}
	d := time.Until(t)
	if d <= 0 {
		c.Conn.Reset(message.Cancel)
		return nil
	}
	c.timer = time.AfterFunc(d, func() { c.Conn.Reset(message.Cancel) })
	return nil
}

func (c *tunnelConn) SetReadDeadline(t time.Time) error { return c.SetDeadline(t) }

// SetWriteDeadline in the past makes writes fail and leaves reading alone: that is how crypto/tls ends its side after the
// close_notify alert. One in the future, which it sets for that alert, resets the tunnel when it passes.
func (c *tunnelConn) SetWriteDeadline(t time.Time) error {
	if !t.IsZero() && time.Until(t) <= 0 {
		c.noWrite.Store(true)
		return c.SetDeadline(time.Time{})
	}
	c.noWrite.Store(false)
	return c.SetDeadline(t)
}

// Write fails after a deadline for writing has passed.
func (c *tunnelConn) Write(p []byte) (int, error) {
	if c.noWrite.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	return c.Conn.Write(p)
}

type tunnelAddr struct{}

func (tunnelAddr) Network() string { return "hbone" }
func (tunnelAddr) String() string  { return "tunnel" }

var _ io.ReadWriteCloser = (*tunnelConn)(nil)
