package h1

import (
	"bytes"
	"io"
	"sync/atomic"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// reader is the receiving half of a stream: heads, a body, trailers. Only the goroutine that reads uses it, apart from the
// atomic fields.
type reader struct {
	conn message.Conn
	lim  limits
	buf  *buffer // nil while nothing is buffered

	kind    bodyKind
	left    int64 // of a fixed body
	chunk   chunks
	seen    int // see scan
	trailer header.Fields
	hasTr   bool
	err     error // what Read returns from now on, io.EOF included

	begun atomic.Bool // a body byte has been given to the caller
	done  atomic.Bool // the message is complete
	bad   atomic.Bool // the body is malformed or was cut off: what follows it has no meaning
	wire  atomic.Bool // after an upgrade: read returns raw bytes
}

// buffer returns the read buffer, with what it holds.
func (r *reader) buffer() *buffer {
	if r.buf == nil {
		r.buf = getBuffer()
	}
	return r.buf
}

// release gives the buffer back if nothing is in it.
func (r *reader) release() {
	if r.buf != nil && r.buf.pos == len(r.buf.data) {
		putBuffer(r.buf)
		r.buf = nil
	}
}

// head waits for a whole head and returns its bytes, which stay valid until the next use of the buffer; skip takes them.
// check looks at an incomplete head once, when its first line has come, to refuse early what may never end.
func (r *reader) head(check func([]byte) error) ([]byte, error) {
	b := r.buffer()
	checked := false
	for seen := 0; ; {
		u, before := b.unread(), seen
		end, bareLF := scan(u, &seen)
		switch {
		case bareLF:
			return nil, bad("a line ends with LF alone")
		case end > 0:
			return u[:end], nil
		case len(u) > r.lim.raw:
			return nil, malformed(statusHeadersTooLarge, detailHeadersTooLarge, "the head is too long")
		}
		if !checked && bytes.IndexByte(u[before:], '\n') >= 0 {
			checked = true
			if err := check(u); err != nil {
				return nil, err
			}
		}
		if err := b.fill(r.conn); err != nil {
			if err == io.EOF && len(u) == 0 {
				return nil, err
			}
			return nil, cutOff(err)
		}
	}
}

// skip takes n bytes of the buffer.
func (r *reader) skip(n int) {
	r.buf.pos += n
	r.release()
}

// begin sets the body up that follows a head.
func (r *reader) begin(fr *framing) (end bool) {
	r.kind, r.left, r.chunk, r.seen, r.err = fr.kind, fr.length, chunks{}, 0, nil
	r.begun.Store(false)
	r.done.Store(false)
	r.bad.Store(false)
	r.wire.Store(fr.kind == raw)
	if r.hasTr {
		r.trailer.Reset()
		r.hasTr = false
	}
	if r.kind == noBody || r.kind == fixed && r.left == 0 {
		r.finish()
		return true
	}
	return false
}

func (r *reader) fail(err error) error {
	r.err = err
	r.bad.Store(true)
	return err
}

func (r *reader) finish() {
	r.err = io.EOF
	r.done.Store(true)
}

// read is Stream.Read.
func (r *reader) read(p []byte) (n int, err error) {
	switch {
	case r.wire.Load():
		if n, err = r.some(p); err == io.EOF {
			r.done.Store(true)
		} else if err != nil {
			err = lost(err)
		}
		return n, err
	case r.err != nil:
		return 0, r.err
	case len(p) == 0:
		return 0, nil
	}
	switch r.kind {
	case fixed:
		if int64(len(p)) > r.left {
			p = p[:r.left]
		}
		if n, err = r.some(p); err != nil {
			return 0, r.fail(cutOff(err))
		}
		if r.left -= int64(n); r.left == 0 {
			r.finish()
		}
	case untilEOF:
		if n, err = r.some(p); err == io.EOF {
			r.finish()
			return 0, io.EOF
		} else if err != nil {
			return 0, r.fail(lost(err))
		}
	case chunked:
		if n, err = r.readChunks(p); n == 0 {
			return 0, err
		}
	}
	r.begun.Store(true)
	return n, nil
}

// some gives what is buffered, else what the connection gives.
func (r *reader) some(p []byte) (int, error) {
	if r.buf != nil {
		n := copy(p, r.buf.unread())
		r.skip(n)
		if n > 0 {
			return n, nil
		}
	}
	return readSome(r.conn, p)
}

// readChunks fills p with the data of as many chunks as are buffered, and waits only while it has none.
func (r *reader) readChunks(p []byte) (n int, err error) {
	for {
		b := r.buffer()
		for {
			k, err := r.chunk.skip(b.unread())
			b.pos += k
			if err != nil {
				_ = r.fail(err) // returned below, or by the next call
				break
			}
			if r.chunk.state == inTrailers {
				r.readTrailers(n == 0)
				break
			}
			k = int(min(int64(len(p)-n), r.chunk.left, int64(len(b.unread()))))
			if r.chunk.state != inData || k == 0 {
				break
			}
			copy(p[n:], b.data[b.pos:b.pos+k])
			b.pos += k
			n += k
			r.chunk.take(k)
		}
		r.release()
		switch {
		case n > 0:
			return n, nil // an error, or the end, waits for the next call
		case r.err != nil:
			return 0, r.err
		case r.chunk.state == inData && r.chunk.left >= int64(len(p)):
			// A long chunk goes from the connection into p.
			if n, err = readSome(r.conn, p); err != nil {
				return 0, r.fail(cutOff(err))
			}
			r.chunk.take(n)
			return n, nil
		}
		if err := r.buffer().fill(r.conn); err != nil {
			return 0, r.fail(cutOff(err))
		}
	}
}

// readTrailers takes the trailer section if it is there, or may be waited for. The outcome is in r.err.
func (r *reader) readTrailers(wait bool) {
	for {
		u := r.buf.unread()
		end, bareLF := scan(u, &r.seen)
		switch {
		case bareLF:
			_ = r.fail(bad("a line ends with LF alone"))
			return
		case end > 0:
			if err := r.parseTrailers(u[:end]); err != nil {
				_ = r.fail(err)
				return
			}
			r.buf.pos += end
			r.finish()
			return
		case len(u) > r.lim.raw:
			_ = r.fail(malformed(statusHeadersTooLarge, detailHeadersTooLarge, "the trailers are too long"))
			return
		case !wait:
			return
		}
		if err := r.buf.fill(r.conn); err != nil {
			_ = r.fail(cutOff(err))
			return
		}
	}
}

// parseTrailers checks a trailer section, and keeps it if the options say so. A field that would change the framing or the
// routing of the message after the fact is refused (RFC 9110, 6.5.1).
func (r *reader) parseTrailers(u []byte) (err error) {
	if len(u) == len("\r\n") {
		return nil
	}
	if r.buf.lines, err = parseLines(u, 0, r.buf.lines[:0], 0, &r.lim); err != nil {
		return err
	}
	text := string(u)
	for _, l := range r.buf.lines {
		name := text[l.name:l.nameEnd]
		switch header.Lookup(name) {
		case header.Host, header.ContentLength, header.TransferEncoding, header.Authorization:
			return bad(name + " in trailers")
		case header.Connection, header.KeepAlive, header.ProxyConnection, header.Upgrade, header.TE, header.Trailer:
			continue
		}
		if r.lim.trailers {
			r.trailer.Append(name, text[l.value:l.valueEnd])
			r.hasTr = true
		}
	}
	return nil
}

// buffered is Stream.Buffered.
func (r *reader) buffered() (n int, complete bool) {
	var u []byte
	if r.buf != nil {
		u = r.buf.unread()
	}
	switch {
	case r.wire.Load():
		return len(u), false
	case r.err != nil:
		return 0, r.err == io.EOF
	case r.kind == fixed:
		n = int(min(int64(len(u)), r.left))
		return n, int64(n) == r.left
	case r.kind == untilEOF:
		return len(u), false
	}
	for d := r.chunk; ; {
		k, err := d.skip(u)
		if u = u[k:]; err != nil {
			return n, false
		}
		if d.state == inTrailers {
			seen := 0
			end, _ := scan(u, &seen)
			return n, end > 0
		}
		if k = int(min(d.left, int64(len(u)))); d.state != inData || k == 0 {
			return n, false
		}
		u = u[k:]
		n += k
		d.take(k)
	}
}
