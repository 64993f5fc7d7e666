package h2

import (
	"io"
	"strings"
	"sync"

	"golang.org/x/net/http2/hpack"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// reader is the state of the reading half. It belongs to the goroutine in [Conn.Serve].
type reader struct {
	wantPreface string // what is still to come of it
	settled     bool   // the first frame, SETTINGS, came

	data    dataFrame
	block   block
	decoder *hpack.Decoder

	window   int64 // the connection's receive window
	consumed int64 // what has not been given back of it

	touched      []*Stream // to be woken at the end of the batch
	queued       int64     // bytes that the batch has put into queues
	acked        bool      // our SETTINGS are in force
	earlyRefused int       // streams beyond the limit, opened before the peer had seen it
}

// dataFrame is the DATA frame that the reader is in the middle of.
type dataFrame struct {
	open    bool
	stream  *Stream // nil: the bytes are dropped
	left    int     // of the data
	padding int
	end     bool
}

// Read buffers: a connection begins with a small one; a read that fills it gets a large one, which takes a whole TLS record
// beside a part of a frame. After quietReads reads that did not need it, it goes back.
const (
	smallRead  = 4 << 10
	largeRead  = 32 << 10
	quietReads = 64
)

type readBuffer [largeRead]byte

var readBuffers = sync.Pool{New: func() any { return new(readBuffer) }}

func (r *reader) init(c *Conn) {
	r.window = int64(c.opts.ConnWindow)
	r.block.maxSize = int(min(c.opts.MaxHeaderListSize, maxWindow))
	r.block.maxFields = c.opts.Limits.MaxHeaderFields
	r.block.connectProtocol = c.opts.EnableConnectProtocol
	r.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if !r.block.emit(f) {
			r.decoder.SetEmitEnabled(false) // the rest is decoded for the state only
		}
	})
}

// read runs until the connection ends and says why it did.
func (c *Conn) read() error {
	small := make([]byte, smallRead)
	buf := small
	var large *readBuffer
	have, quiet := 0, 0
	for {
		n, readErr := c.rw.Read(buf[have:])
		c.stats.bytesRead.Add(int64(n))
		have += n
		used, err := c.batch(buf[:have])
		if err != nil {
			return err
		}
		if readErr != nil {
			if readErr == io.EOF && used < have { //nolint:errorlint // io.Reader returns it unwrapped
				return io.ErrUnexpectedEOF
			}
			return readErr
		}
		full := have == len(buf)
		rest := buf[used:have]
		switch need := c.need(rest); {
		case need > len(buf):
			// One frame is longer than the buffer: only with a larger MaxFrameSize, and no longer than that.
			buf = append(make([]byte, 0, need), rest...)[:need]
		case large == nil && (full || need > smallRead):
			large = readBuffers.Get().(*readBuffer)
			quiet = 0
			copy(large[:], rest)
			buf = large[:]
		default:
			copy(buf, rest)
			if quiet++; have > smallRead {
				quiet = 0
			}
			if quiet > quietReads && len(rest) == 0 {
				if large != nil {
					readBuffers.Put(large)
				}
				large, buf, quiet = nil, small, 0
			}
		}
		have = len(rest)
	}
}

// largestControl is the longest frame other than DATA that is read, if MaxFrameSize allows it at all.
func (c *Conn) largestControl() int {
	return max(defaultMaxFrameSize, int(min(c.opts.MaxHeaderListSize, maxFrameSize)))
}

// need tells how many bytes the frame at the beginning of rest takes in the buffer.
func (c *Conn) need(rest []byte) int {
	if c.reader.data.open || c.reader.wantPreface != "" || len(rest) < frameHeaderLen {
		return frameHeaderLen + 1
	}
	h := parseFrameHeader(rest)
	if h.typ == frameData || h.length > c.largestControl() {
		return frameHeaderLen + 1
	}
	return frameHeaderLen + h.length
}

// batch parses what has come and wakes the streams it was for. It returns how many bytes it has used up.
func (c *Conn) batch(b []byte) (used int, err error) {
	for used < len(b) {
		n, frameErr := c.step(b[used:])
		if frameErr != nil {
			err = frameErr
			break
		}
		if n == 0 {
			break
		}
		used += n
	}
	r := &c.reader
	c.opts.Budget.queue(r.queued)
	r.queued = 0
	if r.consumed >= int64(c.opts.ConnWindow)/4 {
		// Connection credit goes back whether streams are read or not: a stalled one must not hold up the others.
		c.windowUpdate(0, uint32(r.consumed))
		r.window += r.consumed
		r.consumed = 0
	}
	for i, s := range r.touched {
		r.touched[i] = nil
		s.recv.touched = false
		if s.recv.fresh {
			s.recv.fresh = false
			go c.handle(s)
		} else {
			s.wake()
		}
	}
	r.touched = r.touched[:0]
	return used, err
}

func (r *reader) touch(s *Stream) {
	if !s.recv.touched {
		s.recv.touched = true
		r.touched = append(r.touched, s)
	}
}

// step takes one frame, or a part of a DATA frame, from the beginning of b. 0: it needs more bytes.
func (c *Conn) step(b []byte) (int, error) {
	r := &c.reader
	if r.wantPreface != "" {
		n := min(len(b), len(r.wantPreface))
		if !strings.HasPrefix(r.wantPreface, string(b[:n])) {
			return 0, connError(message.ProtocolError, "the client's connection preface is not HTTP/2's")
		}
		r.wantPreface = r.wantPreface[n:]
		return n, nil
	}
	if r.data.open {
		return c.dataBytes(b)
	}
	if len(b) < frameHeaderLen {
		return 0, nil
	}
	h := parseFrameHeader(b)
	if h.length > int(c.opts.MaxFrameSize) {
		return 0, connError(message.FrameSizeError, "a frame is longer than SETTINGS_MAX_FRAME_SIZE")
	}
	if !r.settled && (h.typ != frameSettings || h.has(flagAck)) {
		return 0, connError(message.ProtocolError, "the first frame is not SETTINGS")
	}
	if r.block.open && (h.typ != frameContinuation || h.streamID != r.block.id) {
		return 0, connError(message.ProtocolError, "a header block is interrupted by another frame")
	}
	if h.typ == frameData {
		return c.beginData(h, b[frameHeaderLen:])
	}
	if h.length > c.largestControl() {
		// Only DATA streams through; anything else has to fit into the buffer.
		return 0, connError(message.EnhanceYourCalm, "a frame other than DATA is longer than any head may be")
	}
	if len(b) < frameHeaderLen+h.length {
		return 0, nil
	}
	return frameHeaderLen + h.length, c.frame(h, b[frameHeaderLen:frameHeaderLen+h.length])
}

// frame handles any frame but DATA.
func (c *Conn) frame(h frameHeader, p []byte) error {
	switch h.typ {
	case frameHeaders:
		return c.onHeaders(h, p)
	case frameContinuation:
		return c.onContinuation(h, p)
	case framePriority:
		return c.onPriority(h, p)
	case frameRSTStream:
		return c.onRSTStream(h, p)
	case frameSettings:
		return c.onSettings(h, p)
	case framePing:
		return c.onPing(h, p)
	case frameGoAway:
		return c.onGoAway(h, p)
	case frameWindowUpdate:
		return c.onWindowUpdate(h, p)
	case framePushPromise:
		return connError(message.ProtocolError, "PUSH_PROMISE, which was not allowed")
	default:
		return c.spendControl(1, "unknown")
	}
}

// beginData checks a DATA frame and its effect on the windows.
func (c *Conn) beginData(h frameHeader, p []byte) (int, error) {
	r := &c.reader
	if h.streamID == 0 {
		return 0, connError(message.ProtocolError, "DATA on stream 0")
	}
	used, padding := frameHeaderLen, 0
	data := h.length
	if h.has(flagPadded) {
		if h.length == 0 {
			return 0, connError(message.FrameSizeError, "padded DATA without a pad length")
		}
		if len(p) == 0 {
			return 0, nil
		}
		padding = int(p[0])
		used++
		data -= 1 + padding
		if data < 0 {
			return 0, connError(message.ProtocolError, "DATA has more padding than payload")
		}
	}
	if r.window -= int64(h.length); r.window < 0 {
		return 0, connError(message.FlowControlError, "the connection's window overflows")
	}
	r.consumed += int64(h.length)
	end := h.has(flagEndStream)
	if data == 0 && !end {
		if err := c.spendControl(1, "empty DATA"); err != nil {
			return 0, err
		}
	} else {
		c.controls.give(controlsPerData)
	}

	s := c.lookup(h.streamID)
	switch s {
	case nil:
		if err := c.lateData(h.streamID); err != nil {
			return 0, err
		}
	default:
		ok, err := c.admit(s, h.length, data, end)
		if err != nil {
			return 0, err
		}
		if !ok {
			s = nil
		}
	}
	r.data = dataFrame{open: true, stream: s, left: data, padding: padding, end: end}
	c.endData()
	return used, nil
}

// admit tells whether the stream takes a DATA frame; if not, it has been reset.
func (c *Conn) admit(s *Stream, frame, data int, end bool) (bool, error) {
	v := &s.recv
	v.mu.Lock()
	ended, closed := v.end, v.closed
	v.window.avail -= int64(frame)
	overflow := v.window.avail < 0
	credit := uint32(0)
	if frame > data && !overflow && !end {
		credit = v.window.taken(v.data.n+data, c) // nobody will read the padding
	}
	v.mu.Unlock()
	v.body += int64(data)
	switch {
	case ended:
		return false, c.streamError(s, message.StreamClosed, "DATA after END_STREAM")
	case c.client && !v.final:
		return false, c.streamError(s, message.ProtocolError, "DATA before the response's head")
	case overflow:
		return false, c.streamError(s, message.FlowControlError, "the stream's window overflows")
	case v.length >= 0 && (v.body > v.length || end && v.body != v.length):
		return false, c.streamError(s, message.ProtocolError, "the body is not as long as content-length says")
	case c.client && s.isHead && data > 0:
		return false, c.streamError(s, message.ProtocolError, "the response to HEAD has a body")
	case closed && data > 0:
		s.Reset(message.NoError) // a tunnel that this side has closed; see tunnel.Close
		return false, nil
	}
	if credit > 0 {
		c.windowUpdate(s.id, credit)
	}
	return true, nil
}

// dataBytes takes bytes of the open DATA frame.
func (c *Conn) dataBytes(b []byte) (int, error) {
	d := &c.reader.data
	n := min(len(b), d.left)
	if n > 0 {
		d.left -= n
		if s := d.stream; s != nil {
			v := &s.recv
			v.mu.Lock()
			if v.err == nil && !v.closed {
				v.data.push(b[:n])
				c.reader.queued += int64(n)
			}
			v.mu.Unlock()
			c.reader.touch(s)
		}
	}
	skip := min(len(b)-n, d.padding)
	d.padding -= skip
	c.endData()
	return n + skip, nil
}

// endData finishes the DATA frame if all of it has come.
func (c *Conn) endData() {
	d := &c.reader.data
	if d.left > 0 || d.padding > 0 {
		return
	}
	s, end := d.stream, d.end
	*d = dataFrame{}
	if s != nil && end {
		c.endRecv(s)
	}
}

// endRecv notes the peer's END_STREAM.
func (c *Conn) endRecv(s *Stream) {
	both := s.ended(closedRecv) // first, so that whoever reads the end may open the next stream
	s.recv.mu.Lock()
	s.recv.end = true
	s.recv.mu.Unlock()
	c.reader.touch(s)
	if both {
		c.unlinked(s)
	}
}

// streamError resets one stream for its peer's fault.
func (c *Conn) streamError(s *Stream, code message.ResetCode, reason string) error {
	c.opts.Logger.Debug("h2: stream error", "stream", s.id, "code", codeName(code), "reason", reason)
	c.stats.malformed.Add(1)
	s.abort(&message.ResetError{Code: code, Cause: &message.Malformed{Status: 502, Details: "http2.violation.of.messaging.rule", Reason: reason}})
	return c.spendReset()
}

// resetUnknown resets a stream that this side has no state of.
func (c *Conn) resetUnknown(id uint32, code message.ResetCode) error {
	c.mu.Lock()
	c.closedIDs.add(id, endedByUs)
	c.mu.Unlock()
	c.resetsSent.Add(1)
	if !c.out.control(c.opts.Limits.MaxQueuedControls, func(b []byte) []byte { return appendRSTStream(b, id, code) }) {
		return errFlooded
	}
	if r := &c.reader; code == message.RefusedStream && !r.acked && r.earlyRefused < maxEarlyRefused {
		r.earlyRefused++
		return nil
	}
	return c.spendReset()
}

// maxEarlyRefused is how many streams beyond the limit a client may open before it has seen our SETTINGS without that being
// held against it: Envoy knows no limit until then, and opens a stream for each request of a burst.
const maxEarlyRefused = 10_000

// idle tells whether a stream has not been opened yet.
func (c *Conn) idle(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client {
		return id%2 == 0 || id >= c.nextID
	}
	return id%2 == 0 || id > c.lastPeerID
}

// lateData judges a DATA frame on a stream that is not there.
func (c *Conn) lateData(id uint32) error {
	if c.idle(id) {
		if c.tooLate(id) {
			return nil
		}
		return connError(message.ProtocolError, "DATA on an idle stream")
	}
	c.mu.Lock()
	how := c.closedIDs.how(id)
	c.mu.Unlock()
	if how == endedByUs {
		return nil
	}
	return c.resetUnknown(id, message.StreamClosed)
}

// tooLate tells whether a stream was opened after our last GOAWAY, so that all its frames are ignored (RFC 9113, 6.8).
func (c *Conn) tooLate(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refuseFrom > 0 && id >= c.refuseFrom && id%2 == 1
}
