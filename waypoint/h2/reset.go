package h2

import (
	"errors"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// ended notes that one direction has come to its end; when both have, the connection forgets the stream, and the caller has to
// call Conn.unlinked when it holds no lock.
func (s *Stream) ended(direction uint32) (both bool) {
	old := s.closed.Or(direction)
	if old&closedBoth == closedBoth || (old|direction)&closedBoth != closedBoth {
		return false
	}
	s.c.completed.Add(1)
	s.c.unlink(s, endedWhole)
	return true
}

// Reset implements [message.Stream]. It also drops what was received and not read.
func (s *Stream) Reset(code message.ResetCode) {
	e := &message.ResetError{Code: code}
	live := s.closed.Or(closedBoth|closedReset)&closedBoth != closedBoth
	if live {
		s.c.resetsSent.Add(1)
		s.c.unlink(s, endedByUs)
	}
	s.stop(e, live, false)
	if live {
		s.c.unlinked(s)
	}
}

// abort gives the stream up because the peer broke the protocol on it. The reader calls it.
func (s *Stream) abort(e *message.ResetError) {
	if s.closed.Or(closedBoth|closedReset)&closedBoth == closedBoth {
		return
	}
	s.c.resetsSent.Add(1)
	s.c.unlink(s, endedByUs)
	s.stop(e, true, false)
	s.c.unlinked(s)
	s.report(e)
}

// fail gives the stream up because the peer or the connection did.
func (s *Stream) fail(e *message.ResetError) {
	old := s.closed.Or(closedBoth | closedReset)
	if old&closedBoth == closedBoth {
		return
	}
	// What the peer sent is whole: it stays readable, and a server that needs no more of the request (RFC 9113, 8.1) has
	// given nothing up.
	whole := old&closedRecv != 0
	s.c.unlink(s, endedByPeer)
	s.stop(e, false, whole)
	s.c.unlinked(s)
	if !whole || !s.c.client || e.Code != message.NoError || !e.Remote {
		s.report(e)
	}
}

// stop makes all methods fail. With rst, RST_STREAM goes out as the last frame.
func (s *Stream) stop(e *message.ResetError, rst, keepReceived bool) {
	r := &s.recv
	r.mu.Lock()
	if !keepReceived && r.err == nil {
		r.err = e
	}
	r.mu.Unlock()
	s.wake()
	if !keepReceived {
		s.drop()
	}

	o, w := &s.c.out, &s.send
	o.mu.Lock()
	flooded := false
	if rst && s.id != 0 && o.err == nil && !o.closing {
		b := o.pending()
		b.b = appendRSTStream(b.b, s.id, e.Code)
		o.controls++
		flooded = o.controls > s.c.opts.Limits.MaxQueuedControls
		o.dirty()
	}
	if w.err == nil {
		w.err = e
	}
	w.credit.Broadcast()
	if w.inSpace {
		o.space.Broadcast()
		o.heads.Broadcast()
	}
	o.mu.Unlock()
	if flooded {
		s.c.end(errFlooded)
	}
}

// drop releases what was received and not read.
func (s *Stream) drop() {
	s.recv.mu.Lock()
	n := s.recv.data.drop()
	s.recv.mu.Unlock()
	s.c.opts.Budget.queue(-int64(n))
}

func (s *Stream) report(e *message.ResetError) {
	s.recv.mu.Lock()
	f := s.recv.onReset
	var telling chan struct{}
	if f == nil {
		s.recv.unreported = e
	} else {
		telling = make(chan struct{})
		s.recv.telling = telling
	}
	s.recv.onReset = nil
	s.recv.mu.Unlock()
	if f != nil {
		defer close(telling)
		f(e)
	}
}

// Tunnel is the stream as bytes in both directions, for use once a CONNECT has been answered with 2xx.
func (s *Stream) Tunnel() message.Conn { return (*tunnel)(s) }

type tunnel Stream

var _ message.Conn = (*tunnel)(nil)

func (t *tunnel) Read(p []byte) (int, error)          { return (*Stream)(t).Read(p) }
func (t *tunnel) Write(p []byte) (int, error)         { return (*Stream)(t).Write(p) }
func (t *tunnel) Await() error                        { return (*Stream)(t).Await() }
func (t *tunnel) Reset(code message.ResetCode)        { (*Stream)(t).Reset(code) }
func (t *tunnel) OnReset(f func(*message.ResetError)) { (*Stream)(t).OnReset(f) }
func (t *tunnel) CloseWrite() error                   { return (*Stream)(t).CloseWrite(nil) }
func (t *tunnel) Buffered() (n int, complete bool)    { return (*Stream)(t).Buffered() }

// linger is how long the peer may take to end its side of a tunnel that this side has closed. A peer that leaves it open
// would otherwise hold one of the connection's streams for ever, as ztunnel does when its client has gone in silence. Linux
// gives an orphaned TCP connection longer (60 s), but there it costs no one else a stream.
const linger = time.Second

// Close ends both directions. The peer sees the end after everything that was written. If it goes on sending, or does not end
// its side within a second, it is reset as in TCP; but what it sent and nobody reads does not cost it the bytes that it was sent.
func (t *tunnel) Close() error {
	s := (*Stream)(t)
	r := &s.recv
	r.mu.Lock()
	again := r.closed
	r.closed = true
	unread := r.data.drop()
	r.ready.Broadcast()
	r.mu.Unlock()
	s.c.opts.Budget.queue(-int64(unread))
	if again {
		return nil
	}
	err := s.CloseWrite(nil)
	if errors.Is(err, errAfterEnd) {
		err = nil
	}
	switch {
	case s.closed.Load()&closedBoth == closedBoth:
	case unread > 0:
		s.Reset(message.NoError) // "stop sending" (RFC 9113, 8.1); another code may make the peer throw away what was written
	default:
		time.AfterFunc(linger, func() { s.Reset(message.Cancel) })
	}
	return err
}
