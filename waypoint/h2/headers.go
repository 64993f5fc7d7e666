package h2

import (
	"encoding/binary"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// onHeaders begins a header block: it decides what the block is before it is decoded, so that the HPACK state stays right
// whatever becomes of the stream.
func (c *Conn) onHeaders(h frameHeader, p []byte) error {
	if h.streamID == 0 {
		return connError(message.ProtocolError, "HEADERS on stream 0")
	}
	fragment, selfDependent, err := headerFragment(h, p)
	if err != nil {
		return err
	}
	r := &c.reader
	b := &r.block
	b.id, b.end, b.stream, b.continuations, b.after = h.streamID, h.has(flagEndStream), nil, 0, afterBlock{}
	kind, err := c.classify(h)
	if err != nil {
		return err
	}
	if selfDependent && kind != blockDiscard {
		b.after = afterBlock{code: message.ProtocolError, reset: true}
		kind = blockDiscard
	}
	var head *message.Head
	if kind != blockDiscard {
		head = heads.Get().(*message.Head)
	}
	b.begin(kind, head)
	r.decoder.SetEmitEnabled(kind != blockDiscard)
	if len(fragment) == 0 && !h.has(flagEndHeaders) {
		if err := c.spendControl(1, "empty HEADERS"); err != nil {
			return err
		}
	}
	return c.fragment(h, fragment)
}

// headerFragment takes padding and priority off a HEADERS frame.
func headerFragment(h frameHeader, p []byte) (fragment []byte, selfDependent bool, err error) {
	padding := 0
	if h.has(flagPadded) {
		if len(p) == 0 {
			return nil, false, connError(message.FrameSizeError, "padded HEADERS without a pad length")
		}
		padding, p = int(p[0]), p[1:]
	}
	if h.has(flagPriority) {
		if len(p) < 5 {
			return nil, false, connError(message.FrameSizeError, "HEADERS too short for its priority")
		}
		selfDependent = binary.BigEndian.Uint32(p)&maxStreamID == h.streamID
		p = p[5:]
	}
	if padding > len(p) {
		return nil, false, connError(message.ProtocolError, "HEADERS has more padding than payload")
	}
	return p[:len(p)-padding], selfDependent, nil
}

// classify says what a header block is, by the state of its stream.
func (c *Conn) classify(h frameHeader) (blockKind, error) {
	b := &c.reader.block
	s := c.lookup(h.streamID)
	if s == nil {
		return c.classifyUnknown(h.streamID)
	}
	b.stream = s
	s.recv.mu.Lock()
	ended := s.recv.end
	s.recv.mu.Unlock()
	switch {
	case ended:
		return blockDiscard, c.streamError(s, message.StreamClosed, "HEADERS after END_STREAM")
	case s.recv.tunnel:
		// RFC 9113, 8.5: nothing but DATA on a connected stream.
		return blockDiscard, c.streamError(s, message.ProtocolError, "HEADERS on a tunnel")
	case s.recv.final:
		return blockTrailer, nil
	default:
		return blockResponse, nil
	}
}

func (c *Conn) classifyUnknown(id uint32) (blockKind, error) {
	b := &c.reader.block
	if c.client {
		if c.idle(id) {
			return blockDiscard, connError(message.ProtocolError, "HEADERS on a stream that this side did not open")
		}
		return blockDiscard, c.lateHeaders(id)
	}
	if id%2 == 0 {
		return blockDiscard, connError(message.ProtocolError, "a client opens a stream with an even number")
	}
	if c.tooLate(id) {
		return blockDiscard, nil
	}
	c.mu.Lock()
	if id <= c.lastPeerID {
		c.mu.Unlock()
		return blockDiscard, c.lateHeaders(id)
	}
	c.lastPeerID = id
	limit := int(min(c.opts.MaxConcurrentStreams, maxWindow/2))
	// Handlers whose streams were reset still cost something, so they count too; twice the limit, since a handler may
	// rightly finish a little after its stream (CVE-2023-44487).
	refused := c.active >= limit || c.handlers >= 2*limit || c.opts.Budget.exhausted()
	c.mu.Unlock()
	if refused {
		c.stats.refused.Add(1)
		b.after = afterBlock{code: message.RefusedStream, reset: true}
		return blockDiscard, nil
	}
	return blockRequest, nil
}

// lateHeaders judges HEADERS on a stream that has ended.
func (c *Conn) lateHeaders(id uint32) error {
	c.mu.Lock()
	how := c.closedIDs.how(id)
	c.mu.Unlock()
	switch how {
	case endedByUs:
		return nil
	case endedByPeer:
		c.reader.block.after = afterBlock{code: message.StreamClosed, reset: true}
		return nil
	case endedWhole:
		return connError(message.StreamClosed, "HEADERS on a stream that has ended")
	default:
		return connError(message.ProtocolError, "HEADERS on a stream number that is below the last")
	}
}

func (c *Conn) onContinuation(h frameHeader, p []byte) error {
	b := &c.reader.block
	if !b.open {
		return connError(message.ProtocolError, "CONTINUATION without HEADERS")
	}
	if b.continuations++; b.continuations > c.opts.Limits.MaxContinuations {
		return connError(message.EnhanceYourCalm, "too many CONTINUATION frames")
	}
	return c.fragment(h, p)
}

func (c *Conn) fragment(h frameHeader, p []byte) error {
	r := &c.reader
	if _, err := r.decoder.Write(p); err != nil {
		return connError(message.CompressionError, err.Error())
	}
	r.block.open = !h.has(flagEndHeaders)
	if r.block.open {
		return nil
	}
	if err := r.decoder.Close(); err != nil {
		return connError(message.CompressionError, err.Error())
	}
	r.block.finish()
	return c.blockComplete()
}

// blockComplete hands the decoded block on.
func (c *Conn) blockComplete() error {
	b := &c.reader.block
	head := b.head
	b.head = nil
	var err error
	switch b.kind {
	case blockDiscard:
		if b.after.reset {
			err = c.resetDiscarded(b)
		}
	case blockRequest:
		if b.bad == "" && !b.tooLarge && b.contentLengthBroken() {
			b.fail("the request ends without the body that content-length promises")
		}
		switch {
		case b.tooLarge:
			err = c.answer431(b)
		case b.bad != "":
			c.stats.malformed.Add(1)
			c.opts.Logger.Debug("h2: malformed request", "stream", b.id, "reason", b.bad)
			err = c.resetUnknown(b.id, message.ProtocolError)
		default:
			c.openServerStream(b, head)
			head = nil
		}
	case blockResponse:
		head, err = c.response(b, head)
	case blockTrailer:
		head, err = c.trailer(b, head)
	}
	if head != nil {
		head.Reset()
		heads.Put(head)
	}
	b.stream = nil
	return err
}

// resetDiscarded resets the stream of a discarded block, whether it is known or not.
func (c *Conn) resetDiscarded(b *block) error {
	if b.stream != nil {
		return c.streamError(b.stream, b.after.code, "a stream depends on itself")
	}
	return c.resetUnknown(b.id, b.after.code)
}

func (b *block) contentLengthBroken() bool { return b.end && b.contentLength > 0 }

// answer431 answers a request whose head is too large without giving it to the handler.
func (c *Conn) answer431(b *block) error {
	c.stats.malformed.Add(1)
	ok := c.out.control(c.opts.Limits.MaxQueuedControls, func(p []byte) []byte {
		o := &c.out
		buf := o.pending()
		at := len(p)
		buf.b = appendFrameHeader(p, 0, frameHeaders, flagEndHeaders|flagEndStream, b.id)
		o.enc.response(&message.Head{Status: 431}, false)
		endBlock(buf, at, b.id, o.peerMaxFrame)
		return buf.b
	})
	if !ok {
		return errFlooded
	}
	if b.end {
		c.mu.Lock()
		c.closedIDs.add(b.id, endedWhole)
		c.mu.Unlock()
		return c.spendReset()
	}
	return c.resetUnknown(b.id, message.NoError)
}

func (c *Conn) openServerStream(b *block, head *message.Head) {
	s := newStream(c, b.id)
	s.isHead = head.Method == "HEAD"
	s.isConnect = head.Method == "CONNECT" || head.Upgrade != ""
	s.isExtended = head.Upgrade != ""
	v := &s.recv
	v.head, v.headEnd = head, b.end
	v.end, v.final, v.fresh = b.end, true, true
	v.tunnel = s.isConnect
	v.length = b.contentLength
	size := int64(c.opts.InitialWindow)
	v.window = window{size: size, avail: size}
	if !c.reader.acked {
		v.window.avail = max(size, defaultWindow) // the client may not know of a smaller one yet
	}
	c.out.mu.Lock()
	s.send.window = c.out.peerWindow // changed only by the reader, which is us
	c.out.mu.Unlock()
	if b.end {
		s.closed.Store(closedRecv)
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.streams[s.id] = s
	c.active++
	c.handlers++
	c.mu.Unlock()
	c.stats.opened.Add(1)
	c.controls.give(controlsPerData)
	c.reader.touch(s)
}

// response takes a response's head. It returns the head if it was not used.
func (c *Conn) response(b *block, head *message.Head) (*message.Head, error) {
	s := b.stream
	v := &s.recv
	if b.tooLarge {
		b.fail("the response's head is larger than SETTINGS_MAX_HEADER_LIST_SIZE")
	}
	status := head.Status
	final := status >= 200
	tunnel := s.isConnect && status/100 == 2
	if tunnel {
		head.Fields.Del(header.ContentLength) // means nothing there (RFC 9110, 9.3.6)
		b.contentLength = -1
	}
	bodiless := s.isHead || status == 204 || status == 304
	if b.end && b.contentLength > 0 && !bodiless {
		b.fail("the response ends without the body that content-length promises")
	}
	if b.bad != "" {
		return head, c.streamError(s, message.ProtocolError, b.bad)
	}
	if !final {
		if v.informational++; v.informational > c.opts.Limits.MaxInformational {
			return head, c.streamError(s, message.EnhanceYourCalm, "too many informational responses")
		}
	} else {
		v.final, v.tunnel = true, tunnel
		if !bodiless {
			v.length = b.contentLength
		}
		if s.isExtended && status == 200 {
			head.Status = 101 // the form that HTTP/1.1 gives it
		}
	}
	v.mu.Lock()
	if v.head == nil {
		v.head, v.headEnd = head, b.end
	} else {
		v.more = append(v.more, queuedHead{head, b.end})
	}
	v.mu.Unlock()
	c.controls.give(controlsPerData)
	if b.end {
		c.endRecv(s)
	} else {
		c.reader.touch(s)
	}
	return nil, nil
}

// trailer takes trailers. It returns the head if it was not used.
func (c *Conn) trailer(b *block, head *message.Head) (*message.Head, error) {
	s := b.stream
	if b.tooLarge {
		b.fail("the trailers are larger than SETTINGS_MAX_HEADER_LIST_SIZE")
	}
	if !b.end {
		b.fail("trailers that do not end the stream")
	}
	if s.recv.length >= 0 && s.recv.body != s.recv.length {
		b.fail("the body is not as long as content-length says")
	}
	if b.bad != "" {
		return head, c.streamError(s, message.ProtocolError, b.bad)
	}
	s.recv.mu.Lock()
	if head.Fields.Len() > 0 {
		s.recv.trailer = &head.Fields
		head = nil // the stream keeps it
	}
	s.recv.mu.Unlock()
	c.endRecv(s)
	return head, nil
}

var errFlooded error = connError(message.EnhanceYourCalm, "the peer makes us answer and does not read the answers")
