package h1

import (
	"bytes"
	"strconv"
	"sync/atomic"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// copyLimit is the largest piece of a body that is copied behind a head or a chunk size, to leave in one write. A longer
// one costs more to copy than the write it saves.
const copyLimit = 4 << 10

// writer is the sending half of a stream. Only the goroutine that writes uses it.
type writer struct {
	conn message.Conn
	lim  limits
	buf  *buffer // a head that waits for the body; else nil

	kind   bodyKind
	left   int64 // of a fixed body
	headed bool  // the final head was written
	err    error

	done atomic.Bool // the message is complete
}

// begin makes w ready for the next message.
func (w *writer) begin() {
	w.kind, w.left, w.headed, w.err = noBody, 0, false, nil
	w.done.Store(false)
}

// headWriter builds a head. It counts the lines, so that a value which would break out of its line is noticed.
type headWriter struct {
	b     []byte
	lines int
	bad   bool
}

// fields writes the field lines, without those that the writer decides on.
func (w *headWriter) fields(f *header.Fields) {
	for i := range f.All() {
		e := f.At(i)
		switch e.ID {
		case header.Host, header.Connection, header.KeepAlive, header.ProxyConnection, header.TransferEncoding,
			header.Upgrade, header.ContentLength:
			continue
		case header.TE:
			if e.Value != "trailers" {
				continue
			}
		case header.Other:
			w.bad = w.bad || !validName(e.Name)
		}
		w.field(e.Name, e.Value)
	}
}

func (w *headWriter) field(name, value string) {
	w.b = append(w.b, name...)
	w.b = append(w.b, ": "...)
	w.b = append(w.b, value...)
	w.end()
}

func (w *headWriter) length(n int64) {
	w.b = append(w.b, "content-length: "...)
	w.b = strconv.AppendInt(w.b, n, 10)
	w.end()
}

func (w *headWriter) end() {
	w.b = append(w.b, "\r\n"...)
	w.lines++
}

// ok is the last guard against injection, wherever a name or value came from: as many CR and LF as lines, no NUL, and names
// that are names.
func (w *headWriter) ok() bool {
	return !w.bad && bytes.Count(w.b, lf) == w.lines && bytes.Count(w.b, cr) == w.lines && bytes.IndexByte(w.b, 0) < 0
}

var cr, lf, crlf = []byte("\r"), []byte("\n"), []byte("\r\n")

// length returns the content-length that a head declares, -1 for none.
func length(f *header.Fields) (int64, error) {
	switch f.Count(header.ContentLength) {
	case 0:
		return -1, nil
	case 1:
		if n, ok := parseLength(f.Value(header.ContentLength)); ok {
			return n, nil
		}
	}
	return 0, errHead
}

// head begins a head in the buffer.
func (w *writer) head() headWriter {
	if w.buf == nil {
		w.buf = getBuffer()
	}
	return headWriter{b: w.buf.data[:0]}
}

// finishHead writes the framing fields for a body of kind w.kind, of which declared is the length (-1: not known), and sends
// the head if now says so. Else it waits for the body.
func (w *writer) finishHead(h *headWriter, declared int64, now bool) error {
	if w.kind == chunked {
		h.field("transfer-encoding", "chunked")
	} else if declared >= 0 {
		h.length(declared)
	}
	h.end()
	w.buf.data = h.b
	if !h.ok() {
		return w.reject(errHead)
	}
	if now {
		return w.flush()
	}
	return nil
}

// write is Stream.Write.
func (w *writer) write(p []byte) (int, error) {
	switch {
	case w.err != nil:
		return 0, w.err
	case !w.headed:
		return 0, errNoHead
	case w.done.Load():
		return 0, errEnded
	case w.kind == dropped:
		return len(p), nil
	case w.kind == fixed && int64(len(p)) > w.left:
		return 0, w.abort(errTooLong)
	case w.kind == noBody && len(p) > 0:
		return 0, w.abort(errTooLong)
	case len(p) == 0:
		return 0, nil // an empty chunk would end the body
	}
	if w.kind == fixed {
		w.left -= int64(len(p))
	}
	if w.kind != chunked && w.buf == nil {
		return w.send(p)
	}
	if w.buf == nil {
		w.buf = getBuffer()
	}
	b := w.buf.data
	if w.kind == chunked {
		b = strconv.AppendUint(b, uint64(len(p)), 16)
		b = append(b, "\r\n"...)
	}
	small := len(p) <= copyLimit
	if small {
		b = append(b, p...)
		if w.kind == chunked {
			b = append(b, "\r\n"...)
		}
	}
	w.buf.data = b
	if err := w.flush(); err != nil {
		return 0, err
	}
	if small {
		return len(p), nil
	}
	n, err := w.send(p)
	if err == nil && w.kind == chunked {
		_, err = w.send(crlf)
	}
	return n, err
}

// flush is Stream.Flush.
func (w *writer) flush() error {
	if w.buf == nil {
		return w.err
	}
	b := w.buf
	w.buf = nil
	_, err := w.send(b.data)
	putBuffer(b)
	return err
}

func (w *writer) send(p []byte) (int, error) {
	n, err := w.conn.Write(p)
	if err != nil {
		w.err = lost(err)
	}
	return n, w.err
}

// close ends the body.
func (w *writer) close(trailer *header.Fields) error {
	switch {
	case w.err != nil:
		return w.err
	case !w.headed:
		return errNoHead
	case w.kind == raw:
		if err := w.flush(); err != nil {
			return err
		}
		w.done.Store(true)
		return w.conn.CloseWrite()
	case w.done.Load():
		return nil
	case w.kind == fixed && w.left > 0:
		return w.abort(errTooShort)
	case w.kind == chunked:
		if w.buf == nil {
			w.buf = getBuffer()
		}
		b := w.buf.data
		b = append(b, "0\r\n"...)
		if trailer != nil && w.lim.trailers {
			t := headWriter{b: b}
			t.fields(trailer)
			if t.lines += bytes.Count(b, lf); !t.ok() {
				return w.abort(errHead)
			}
			b = t.b
		}
		b = append(b, "\r\n"...)
		w.buf.data = b
	}
	w.done.Store(true)
	return w.flush()
}

// reject refuses a head of which nothing was sent: another may take its place.
func (w *writer) reject(err error) error {
	w.drop()
	w.begin()
	return err
}

// abort ends a message that cannot be ended properly: the peer must not take it for whole.
func (w *writer) abort(err error) error {
	w.drop()
	w.err = err
	w.conn.Reset(message.InternalError)
	return err
}

func (w *writer) drop() {
	putBuffer(w.buf)
	w.buf = nil
}
