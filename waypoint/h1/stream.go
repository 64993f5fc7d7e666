package h1

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// stream is what the server's and the client's side of an exchange share.
type stream struct {
	conn    message.Conn
	in      reader
	out     writer
	version message.Version
	reuse   bool // the connection can carry another exchange, as far as the heads say

	gone    atomic.Pointer[message.ResetError] // why the connection was given up
	mu      sync.Mutex
	onReset func(*message.ResetError)
	telling chan struct{} // closed when onReset, which has been called, has returned; nil: it has not been called
}

func (s *stream) init(c message.Conn, o *Options) {
	l := o.limits()
	s.conn, s.version = c, message.HTTP11
	s.in.conn, s.in.lim = c, l
	s.out.conn, s.out.lim = c, l
	if len(o.Prefix) > 0 {
		b := s.in.buffer()
		b.data = append(b.data, o.Prefix...)
	}
	c.OnReset(s.peerReset)
}

// begin makes s ready for the next exchange.
func (s *stream) begin() {
	s.in.begin(&framing{kind: untilEOF})
	s.out.begin()
	s.version, s.reuse = message.HTTP11, false
}

// complete tells whether both messages are.
func (s *stream) complete() bool { return s.in.done.Load() && s.out.done.Load() }

// release gives all buffers back; what is in them is lost.
func (s *stream) release() {
	putBuffer(s.in.buf)
	s.in.buf = nil
	s.out.drop()
}

// peerReset is called by the connection.
func (s *stream) peerReset(e *message.ResetError) {
	if !s.gone.CompareAndSwap(nil, e) {
		return
	}
	s.mu.Lock()
	f := s.onReset
	s.onReset = nil
	if f == nil || s.complete() {
		s.mu.Unlock()
		return
	}
	telling := make(chan struct{})
	s.telling = telling
	s.mu.Unlock()
	defer close(telling)
	f(e)
}

// OnReset is [message.Stream.OnReset]: the connection's, while the exchange is not complete.
func (s *stream) OnReset(f func(*message.ResetError)) {
	s.mu.Lock()
	s.onReset = f
	telling := s.telling
	s.mu.Unlock()
	if f == nil && telling != nil {
		<-telling
	}
	if e := s.gone.Load(); e != nil && f != nil && !s.complete() {
		s.mu.Lock()
		mine := s.onReset != nil // else peerReset has taken it
		s.onReset = nil
		s.mu.Unlock()
		if mine {
			f(e)
		}
	}
}

// Reset gives the exchange up, and with it the connection: HTTP/1.1 has no other way.
func (s *stream) Reset(code message.ResetCode) {
	if s.gone.CompareAndSwap(nil, &message.ResetError{Code: code}) {
		s.conn.Reset(code)
	}
}

// local is the reset by this side, if there was one.
func (s *stream) local() error {
	if e := s.gone.Load(); e != nil && !e.Remote && !e.Lost {
		return e
	}
	return nil
}

// why returns the reset that explains a transport error, or the error.
func (s *stream) why(err error) error {
	if err == nil || err == io.EOF || message.AsMalformed(err) != nil {
		return err
	}
	if e := s.gone.Load(); e != nil {
		return e
	}
	return err
}

// Read takes body bytes. A body that breaks the rules is a *message.Malformed, a connection that ends within it a
// *message.ResetError with Lost set and io.ErrUnexpectedEOF as the cause.
func (s *stream) Read(p []byte) (int, error) {
	if err := s.local(); err != nil {
		return 0, err
	}
	n, err := s.in.read(p)
	return n, s.why(err)
}

// Buffered tells what Read gives without waiting. Bytes that still are in the connection do not count.
func (s *stream) Buffered() (n int, complete bool) { return s.in.buffered() }

// Trailer returns the trailers, if Options.EnableTrailers is set and there were any.
func (s *stream) Trailer() *header.Fields {
	if s.in.hasTr && s.in.err == io.EOF {
		return &s.in.trailer
	}
	return nil
}

// Write sends body bytes, with the head if that still waits. In a message that has no body (HEAD, 204, 304) they are
// dropped. More bytes than the content-length allows are an error, and reset the connection.
func (s *stream) Write(p []byte) (int, error) {
	if err := s.local(); err != nil {
		return 0, err
	}
	n, err := s.out.write(p)
	return n, s.why(err)
}

// Flush sends a head that waits for its body.
func (s *stream) Flush() error { return s.why(s.out.flush()) }

// CloseWrite ends the body. Fewer bytes than the content-length says are an error, and reset the connection. Trailers
// are written if Options.EnableTrailers is set and the body is chunked, else dropped, as by Envoy.
func (s *stream) CloseWrite(trailer *header.Fields) error {
	if err := s.local(); err != nil {
		return err
	}
	return s.why(s.out.close(trailer))
}

// Version is that of the last head read: HTTP/1.1 or HTTP/1.0.
func (s *stream) Version() message.Version { return s.version }
