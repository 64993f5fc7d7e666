package h1

import (
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// ServerConn is a client's connection: requests come one after the other. One goroutine calls Next, Finish and Close;
// CloseAfter may be called from any.
type ServerConn struct {
	s          ServerStream
	wait       [256]byte // the first bytes of a request arrive here, so that an idle connection holds no buffer
	closeAfter atomic.Bool
}

// ServerStream is one request and its response. It is reused for the next request of its connection.
type ServerStream struct {
	stream
	c         *ServerConn
	req       framing
	method    string
	upgrade   bool        // another protocol is asked for: CONNECT, or wanted
	wanted    string      // the value of Upgrade
	broken    bool        // where the next request begins is not known
	expecting atomic.Bool // the client waits for a 100, and has none yet
}

// NewServerConn takes over a connection, with the bytes of Options.Prefix before what c gives.
func NewServerConn(c message.Conn, o Options) *ServerConn {
	sc := &ServerConn{}
	sc.s.c = sc
	sc.s.init(c, &o)
	return sc
}

// CloseAfter makes the next response head say "Connection: close", and Finish close the connection after it: drain. A
// connection that is idle stays open for one more request, since a close could cross it on the way.
func (c *ServerConn) CloseAfter() { c.closeAfter.Store(true) }

// Idle tells whether Next would have to wait for the connection: nothing of a further request has been read. Whoever waits for
// many connections waits by its own means first.
func (c *ServerConn) Idle() bool { return c.s.in.buf == nil }

// Next waits for the first byte of the next request. io.EOF: the client ended its side before it. The stream is the same
// object each time.
func (c *ServerConn) Next() (message.Stream, error) {
	s := &c.s
	s.begin()
	s.broken, s.upgrade, s.method, s.req = false, false, "", framing{}
	s.expecting.Store(false)
	if s.in.buf == nil {
		n, err := readSome(s.conn, c.wait[:])
		if err != nil {
			if err == io.EOF {
				return nil, err
			}
			return nil, s.why(lost(err))
		}
		b := s.in.buffer()
		b.data = append(b.data, c.wait[:n]...)
	}
	return s, nil
}

// ReadHead reads a request head. After a *message.Malformed the response is written to the same stream, as if the request
// had had no body.
func (s *ServerStream) ReadHead(h *message.Head) (end bool, err error) {
	h.Reset()
	if err = s.local(); err != nil {
		return false, err
	}
	s.broken = true // until the head proves well-formed
	b, err := s.head(h)
	if err == nil {
		s.req, err = parseRequest(b, s.in.buf, h, &s.in.lim)
	}
	s.method = h.Method
	if err != nil {
		s.in.err = err
		return false, s.why(err)
	}
	s.in.skip(len(b))
	s.broken, s.reuse, s.version = false, s.req.keepAlive, s.req.version
	end = s.in.begin(&s.req)
	s.expecting.Store(s.req.expect && !end)
	s.wanted, s.upgrade = h.Upgrade, h.Upgrade != "" || h.Method == "CONNECT"
	return end && !s.upgrade, nil
}

// head waits for a whole head. One empty line before it is skipped (RFC 9112, 2.2).
func (s *ServerStream) head(h *message.Head) ([]byte, error) {
	check := func(u []byte) error {
		method, _, v, err := requestLine(u)
		if h.Method = method; err == nil && v == message.HTTP10 && !s.in.lim.http10 {
			err = malformed(statusUpgradeRequired, detailLowVersion, "HTTP/1.0")
		}
		return err
	}
	b, err := s.in.head(check)
	if err == nil && len(b) == len(crlf) {
		s.in.skip(len(b))
		if b, err = s.in.head(check); err == nil && len(b) == len(crlf) {
			err = bad("more than one empty line before the request")
		}
	}
	return b, err
}

// WriteHead writes a response head. Informational heads and an upgrade leave at once, others wait for the body unless end.
//
// The framing is the codec's: content-length if h has it, else chunked (HTTP/1.0: until the end of the connection); nothing
// for 1xx, 204, and a 2xx to CONNECT; for HEAD and 304 what h declares. A head that cannot be sent is an error, nothing is
// sent, and another head may be written instead.
func (s *ServerStream) WriteHead(h *message.Head, end bool) error {
	if err := s.local(); err != nil {
		return err
	}
	w := &s.out
	switch {
	case w.err != nil:
		return s.why(w.err)
	case w.headed:
		return errTwoHeads
	case h.Informational() && s.version == message.HTTP10:
		return nil // no such thing there
	}
	n, err := length(&h.Fields)
	if err != nil {
		return w.reject(err)
	}
	hw := w.head()
	if s.version == message.HTTP10 {
		hw.b = append(hw.b, "HTTP/1.0 "...) // as Envoy, though RFC 9110, 2.5 would have 1.1
	} else {
		hw.b = append(hw.b, "HTTP/1.1 "...)
	}
	hw.b = strconv.AppendInt(hw.b, int64(h.Status), 10)
	hw.b = append(hw.b, ' ')
	hw.b = append(hw.b, reason(h.Status)...)
	hw.end()
	hw.fields(&h.Fields)

	if h.Informational() {
		s.expecting.Store(s.expecting.Load() && h.Status != 100)
		return s.why(w.finishHead(&hw, -1, true))
	}
	w.headed = true
	if s.upgrade && (h.Status == statusSwitchingProtocols || s.method == "CONNECT" && h.Status/100 == 2) {
		if h.Status == statusSwitchingProtocols {
			granted := h.Upgrade
			if granted == "" {
				granted = s.wanted // an HTTP/2 backend only says yes
			}
			hw.field("connection", "upgrade")
			hw.field("upgrade", granted)
		}
		w.kind = raw
		if err = w.finishHead(&hw, -1, true); err != nil {
			return s.why(err)
		}
		s.in.done.Store(false)
		s.in.wire.Store(true)
		if end {
			err = w.close(nil)
		}
		return s.why(err)
	}
	switch {
	case h.Status == 204:
		w.kind, n = dropped, -1
	case s.method == "HEAD", h.Status == 304:
		w.kind = dropped
	case end && n > 0:
		return w.reject(errTooShort)
	case end:
		w.kind, n = fixed, 0
	case n >= 0:
		w.kind = fixed
	case s.version == message.HTTP10:
		w.kind, s.reuse = untilEOF, false
	default:
		w.kind = chunked
	}
	w.left = n
	if s.mustClose() {
		s.reuse = false
		hw.field("connection", "close")
	}
	w.done.Store(end)
	return s.why(w.finishHead(&hw, n, end))
}

// mustClose tells whether no other request can follow this response.
func (s *ServerStream) mustClose() bool {
	switch {
	case !s.reuse, s.broken, s.in.bad.Load(), s.c.closeAfter.Load():
		return true
	case s.upgrade:
		return true // refused; the client may have sent bytes of the other protocol already
	case s.expecting.Load():
		return !s.in.begun.Load() // whether the body that waits for a 100 will come is not known (RFC 9110, 10.1.1)
	}
	return false
}

// Finish ends an exchange, and tells whether Next may be called. If not, it has closed the connection: in order if the
// response is complete, else so that the client notices. A small unread rest of the request is read away first: to keep the
// connection, and so that a close does not destroy the response on its way (RFC 9112, 9.6). It waits at most a second.
func (c *ServerConn) Finish() bool {
	s := &c.s
	s.OnReset(nil)
	switch {
	case s.gone.Load() != nil:
	case !s.out.done.Load() || s.out.err != nil:
		s.Reset(message.InternalError)
	case s.out.kind == raw:
	case s.reuse && s.in.done.Load():
		return true
	case s.reuse && !s.in.bad.Load():
		if s.drain() {
			return true
		}
	default:
		if s.conn.CloseWrite() == nil {
			if s.broken || s.in.bad.Load() {
				s.in.kind, s.in.err = untilEOF, nil
			}
			s.drain()
		}
	}
	c.Close()
	return false
}

// drain reads what is left of the body, up to drainLimit, and tells whether it reached its end.
func (s *ServerStream) drain() bool {
	if s.in.kind == fixed && s.in.left > drainLimit {
		return false
	}
	if _, complete := s.in.buffered(); !complete {
		timer := time.AfterFunc(drainTime, func() { s.conn.Reset(message.NoError) })
		defer timer.Stop()
	}
	b := getBuffer()
	defer putBuffer(b)
	p := b.data[:cap(b.data)]
	for total := 0; total <= drainLimit; {
		n, err := s.in.read(p)
		if err != nil {
			return err == io.EOF
		}
		total += n
	}
	return false
}

// Close ends the connection and gives its buffers back. What was written is still delivered.
func (c *ServerConn) Close() {
	c.s.release()
	_ = c.s.conn.Close() // nothing is left that could be lost
}

var _ message.Stream = (*ServerStream)(nil)
