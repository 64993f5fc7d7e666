package hbone

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
)

// TLSConn is a TLS connection over TCP that writes many records with one system call. crypto/tls has one for each record, of
// 16 KiB at most, and with bodies under way system calls are a third of a proxy's work.
type TLSConn struct {
	*tls.Conn
	below *recordConn // nil: below is not TCP, nothing is gained
}

// TLSServer is tls.Server for a connection that writes much.
func TLSServer(below net.Conn, cfg *tls.Config) *TLSConn {
	if tcp, ok := below.(*net.TCPConn); ok {
		r := &recordConn{TCPConn: tcp}
		return &TLSConn{Conn: tls.Server(r, cfg), below: r}
	}
	return &TLSConn{Conn: tls.Server(below, cfg)}
}

// TLSClient is tls.Client for a connection that writes much.
func TLSClient(below net.Conn, cfg *tls.Config) *TLSConn {
	if tcp, ok := below.(*net.TCPConn); ok {
		r := &recordConn{TCPConn: tcp}
		return &TLSConn{Conn: tls.Client(r, cfg), below: r}
	}
	return &TLSConn{Conn: tls.Client(below, cfg)}
}

// maxRecord is the most that crypto/tls puts into a record (RFC 8446, 5.1).
const maxRecord = 16 << 10

// Write writes p. One goroutine at a time may call it.
func (c *TLSConn) Write(p []byte) (int, error) {
	if c.below == nil || len(p) <= maxRecord {
		return c.Conn.Write(p)
	}
	c.below.hold()
	n, err := c.Conn.Write(p)
	if flushErr := c.below.flush(); err == nil && flushErr != nil {
		return 0, flushErr
	}
	return n, err
}

// Close is tls.Conn's: it sends close_notify, unless a Write is in progress, which it interrupts. crypto/tls does not know of a
// Write that waits here.
func (c *TLSConn) Close() error {
	if c.below != nil && c.below.flushing.Load() {
		return c.below.TCPConn.Close()
	}
	return c.Conn.Close()
}

// NetConn returns the connection below.
func (c *TLSConn) NetConn() net.Conn {
	if c.below != nil {
		return c.below.TCPConn
	}
	return c.Conn.NetConn()
}

// joinUpTo is how many bytes leave in one system call: what the kernel cuts into packets in one go (GSO).
const joinUpTo = 64 << 10

// recordBuffers have room for the record that goes beyond joinUpTo, with its header and tag. They hold memory, no state.
var recordBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, joinUpTo+maxRecord+256)
	return &b
}}

// recordConn keeps the records that come between hold and flush, and sends them together. An alert or a KeyUpdate that the
// reading side writes meanwhile keeps its place among them.
type recordConn struct {
	*net.TCPConn
	flushing atomic.Bool

	mu      sync.Mutex
	holding bool
	buf     *[]byte // nil when empty
	err     error   // the socket's, for all Writes to come
}

func (c *recordConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if !c.holding {
		return c.TCPConn.Write(p)
	}
	if c.buf == nil {
		c.buf = recordBuffers.Get().(*[]byte)
	}
	*c.buf = append(*c.buf, p...)
	if len(*c.buf) >= joinUpTo {
		return len(p), c.sendLocked()
	}
	return len(p), nil
}

func (c *recordConn) hold() {
	c.mu.Lock()
	c.holding = true
	c.mu.Unlock()
}

func (c *recordConn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding = false
	return c.sendLocked()
}

func (c *recordConn) sendLocked() error {
	if c.buf == nil || c.err != nil {
		return c.err
	}
	c.flushing.Store(true)
	_, c.err = c.TCPConn.Write(*c.buf)
	c.flushing.Store(false)
	*c.buf = (*c.buf)[:0]
	recordBuffers.Put(c.buf)
	c.buf = nil
	return c.err
}
