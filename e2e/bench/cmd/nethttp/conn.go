package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// inside turns tunnels into connections of a server.
type inside struct{ conns chan net.Conn }

func (l *inside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.NotFound(w, r)
		return
	}
	w.WriteHeader(http.StatusOK)
	c := &clientConn{w: w, flush: w.(http.Flusher).Flush, chunks: make(chan []byte), past: make(chan struct{}), closed: make(chan struct{})}
	c.flush()
	if uris := r.TLS.PeerCertificates[0].URIs; len(uris) == 1 {
		c.principal = uris[0].String()
	}
	l.conns <- c
	c.pump(r.Body)
	<-c.closed
}

func (l *inside) Accept() (net.Conn, error) { return <-l.conns, nil }
func (l *inside) Close() error              { return nil }
func (l *inside) Addr() net.Addr            { return noAddr{} }

// clientConn is the server's end of a tunnel. net/http reads in the background while a handler runs, and interrupts that by a
// deadline in the past; so reads wait for a channel and not for the stream itself.
type clientConn struct {
	w         io.Writer
	flush     func()
	principal string

	chunks chan []byte // what pump has read; closed at the end
	rest   []byte
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	past chan struct{} // closed while the deadline is in the past
	late bool
}

// pump passes on what the client sends. Two buffers: one is read into while the other is taken.
func (c *clientConn) pump(body io.Reader) {
	defer close(c.chunks)
	for bufs := [2][]byte{make([]byte, 4096), make([]byte, 4096)}; ; bufs[0], bufs[1] = bufs[1], bufs[0] {
		n, err := body.Read(bufs[0])
		if n > 0 {
			select {
			case c.chunks <- bufs[0][:n]:
			case <-c.closed:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (c *clientConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		c.mu.Lock()
		past := c.past
		c.mu.Unlock()
		select {
		case chunk, ok := <-c.chunks:
			if !ok {
				return 0, io.EOF
			}
			c.rest = chunk
		case <-past:
			return 0, os.ErrDeadlineExceeded
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *clientConn) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err == nil {
		c.flush()
	}
	return n, err
}

func (c *clientConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *clientConn) SetReadDeadline(t time.Time) error {
	late := !t.IsZero() && !t.After(time.Now()) // net/http sets none in the future here
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case late && !c.late:
		close(c.past)
	case !late && c.late:
		c.past = make(chan struct{})
	}
	c.late = late
	return nil
}

func (c *clientConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *clientConn) SetWriteDeadline(time.Time) error { return nil }
func (c *clientConn) LocalAddr() net.Addr              { return noAddr{} }
func (c *clientConn) RemoteAddr() net.Addr             { return noAddr{} }

// upstreamConn is a tunnel to the pod, for http.Transport, which sets no deadlines.
type upstreamConn struct {
	io.ReadCloser
	w io.WriteCloser
}

func (c *upstreamConn) Write(p []byte) (int, error) { return c.w.Write(p) }

func (c *upstreamConn) Close() error {
	_ = c.w.Close() // a pipe's never fails
	return c.ReadCloser.Close()
}

func (c *upstreamConn) SetDeadline(time.Time) error      { return nil }
func (c *upstreamConn) SetReadDeadline(time.Time) error  { return nil }
func (c *upstreamConn) SetWriteDeadline(time.Time) error { return nil }
func (c *upstreamConn) LocalAddr() net.Addr              { return noAddr{} }
func (c *upstreamConn) RemoteAddr() net.Addr             { return noAddr{} }

type noAddr struct{}

func (noAddr) Network() string { return "hbone" }
func (noAddr) String() string  { return "127.0.0.1:0" }
