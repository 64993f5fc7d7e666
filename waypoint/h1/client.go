package h1

import (
	"io"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// Poller is a connection that can tell without waiting whether Read would return at once: with bytes, the end or an error.
//
// A client connection is used again only if it is a Poller: bytes that came while nobody asked, and were then taken for the
// answer to the next client's request, would hand one client another's data.
type Poller interface {
	Readable() bool
}

// ClientConn is a connection to a backend, for one exchange at a time. It belongs to one goroutine between exchanges.
type ClientConn struct {
	s ClientStream
}

// ClientStream is one request and its response. It is reused for the next exchange of its connection.
type ClientStream struct {
	stream
	q    asked
	some bool // a head of this exchange has come
	used bool // there was an exchange
}

// NewClientConn takes over a connection.
func NewClientConn(c message.Conn, o Options) *ClientConn {
	cc := &ClientConn{}
	cc.s.init(c, &o)
	return cc
}

// Stream begins an exchange. It is the same object each time; call Reusable before.
func (c *ClientConn) Stream() message.Stream {
	s := &c.s
	s.begin()
	s.q, s.some, s.used = asked{}, false, true
	return s
}

// Reusable tells whether a (further) exchange can begin: the last one is complete on both sides, neither side wants to close,
// and nothing came since. It may be asked again when the connection has been idle; the answer changes when the backend closes.
func (c *ClientConn) Reusable() bool {
	s := &c.s
	if s.gone.Load() != nil || s.in.buf != nil || s.used && (!s.reuse || !s.complete() || s.out.err != nil) {
		return false
	}
	p, ok := s.conn.(Poller)
	if !ok {
		return !s.used
	}
	return !p.Readable()
}

// Close ends the connection and gives its buffers back.
func (c *ClientConn) Close() {
	c.s.release()
	_ = c.s.conn.Close() // nothing is left that could be lost
}

// WriteHead writes the request head: with path as the target, or the authority for CONNECT, and the authority as Host. It
// waits for the body unless end, or unless another protocol or a 100 is asked for: then the backend's word comes first. A head
// that cannot be sent is an error, and nothing is sent. An extended CONNECT (HTTP/2's form of Upgrade,
// RFC 8441) becomes a GET with Upgrade, as in Envoy.
func (s *ClientStream) WriteHead(h *message.Head, end bool) error {
	if err := s.local(); err != nil {
		return err
	}
	w := &s.out
	switch {
	case w.err != nil:
		return s.why(w.err)
	case w.headed:
		return errTwoHeads
	}
	method, target := h.Method, h.Path
	switch {
	case h.Upgrade != "" && method == "CONNECT":
		method = "GET"
	case method == "CONNECT":
		target = h.Authority
	}
	n, err := length(&h.Fields)
	if err != nil || !validToken(method) || !visible(target) || !visible(h.Authority) {
		return w.reject(errHead)
	}
	s.q = asked{head: method == "HEAD", connect: method == "CONNECT", upgrade: h.Upgrade}

	hw := w.head()
	hw.b = append(hw.b, method...)
	hw.b = append(hw.b, ' ')
	hw.b = append(hw.b, target...)
	hw.b = append(hw.b, " HTTP/1.1"...)
	hw.end()
	hw.field("host", h.Authority)
	hw.fields(&h.Fields)
	w.headed = true

	other := s.q.connect || s.q.upgrade != ""
	switch {
	case (end || other) && n > 0:
		return w.reject(errTooShort)
	case other:
		w.kind, end, n = noBody, true, -1
		if s.q.upgrade != "" {
			hw.field("connection", "upgrade")
			hw.field("upgrade", s.q.upgrade)
		}
	case end:
		w.kind = noBody
		if n < 0 && !bodiless(method) {
			n = 0
		}
	case n >= 0:
		w.kind = fixed
	default:
		w.kind = chunked
	}
	w.left = n
	w.done.Store(end)
	return s.why(w.finishHead(&hw, n, end || h.Fields.Has(header.Expect)))
}

// bodiless are the methods whose requests need not say that they have no body; the list is Envoy's.
func bodiless(method string) bool {
	switch method {
	case "GET", "HEAD", "DELETE", "TRACE", "CONNECT":
		return true
	}
	return false
}

// ReadHead waits for the next response head: informational ones first. If the connection ends before the first byte
// of a response, the error is a *message.ResetError with Lost set and io.EOF as its cause: the backend may have closed an
// idle connection as the request was on its way. io.ErrUnexpectedEOF as the cause: it ended later.
//
// A *message.Malformed has Status 502. After a 101, or a 2xx to CONNECT, Read and Write carry raw bytes; do not write
// while this call switches.
func (s *ClientStream) ReadHead(h *message.Head) (end bool, err error) {
	h.Reset()
	if err = s.local(); err != nil {
		return false, err
	}
	s.reuse = false
	b, err := s.in.head(firstStatusLine)
	var fr framing
	if err == nil {
		fr, err = parseResponse(b, s.in.buf, h, &s.in.lim, s.q)
	}
	if err != nil {
		switch {
		case err == io.EOF && s.some:
			err = cutOff(err)
		case err == io.EOF:
			err = lost(err)
		default:
			err = fromUpstream(err)
		}
		s.in.err = err
		return false, s.why(err)
	}
	s.in.skip(len(b))
	s.some, s.version = true, fr.version
	if h.Informational() {
		return false, nil
	}
	end = s.in.begin(&fr)
	if fr.kind == raw {
		s.out.kind = raw
		s.out.done.Store(false)
	}
	s.reuse = fr.keepAlive
	return end, nil
}

// firstStatusLine refuses an answer whose first line, already there, is none: the rest may never come.
func firstStatusLine(u []byte) error {
	_, _, err := statusLine(u)
	return err
}

// Read is [message.Stream.Read]; what is malformed has Status 502.
func (s *ClientStream) Read(p []byte) (int, error) {
	n, err := s.stream.Read(p)
	if err != nil && err != io.EOF {
		err = fromUpstream(err)
	}
	return n, err
}

var _ message.Stream = (*ClientStream)(nil)
