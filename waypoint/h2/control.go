package h2

import (
	"encoding/binary"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// settingsCost is how many control frames one SETTINGS counts for: it may touch every stream.
const settingsCost = 10

func (c *Conn) onSettings(h frameHeader, p []byte) error {
	switch {
	case h.streamID != 0:
		return connError(message.ProtocolError, "SETTINGS on a stream")
	case h.has(flagAck) && len(p) > 0, len(p)%6 != 0:
		return connError(message.FrameSizeError, "SETTINGS of a wrong length")
	}
	if h.has(flagAck) {
		c.reader.acked = true
		c.mu.Lock()
		if !c.life.settingsSent.IsZero() {
			c.measured(time.Since(c.life.settingsSent))
			c.life.settingsSent = time.Time{}
		}
		c.mu.Unlock()
		return nil
	}
	if err := c.spendControl(settingsCost, "SETTINGS"); err != nil {
		return err
	}
	if !c.reader.settled {
		c.reader.settled = true
		c.mu.Lock()
		c.life.settled = true
		c.schedule(time.Now())
		c.mu.Unlock()
	}
	for ; len(p) > 0; p = p[6:] {
		if err := c.apply(setting{binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])}); err != nil {
			return err
		}
	}
	if !c.out.control(c.opts.Limits.MaxQueuedControls, appendSettingsAck) {
		return errFlooded
	}
	c.signalCapacity()
	return nil
}

func (c *Conn) apply(s setting) error {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	switch s.id {
	case settingHeaderTableSize:
		o.enc.setTableSize(s.value)
	case settingEnablePush:
		if s.value > 1 || c.client && s.value != 0 {
			return connError(message.ProtocolError, "a bad SETTINGS_ENABLE_PUSH")
		}
	case settingMaxConcurrentStreams:
		c.mu.Lock()
		c.maxStreams = s.value
		c.mu.Unlock()
	case settingInitialWindowSize:
		if s.value > maxWindow {
			return connError(message.FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1")
		}
		return c.applyWindow(int64(s.value))
	case settingMaxFrameSize:
		if s.value < defaultMaxFrameSize || s.value > maxFrameSize {
			return connError(message.ProtocolError, "SETTINGS_MAX_FRAME_SIZE out of range")
		}
		o.peerMaxFrame = int(min(s.value, largestFrame))
	case settingEnableConnectProtocol:
		if s.value > 1 || s.value == 0 && o.peerConnect {
			return connError(message.ProtocolError, "a bad SETTINGS_ENABLE_CONNECT_PROTOCOL")
		}
		o.peerConnect = s.value == 1
	}
	return nil
}

// largestFrame is the longest frame that we send, whatever the peer takes: longer ones save nothing and keep the streams
// beside them waiting.
const largestFrame = 32 << 10

// applyWindow changes the sending window of every stream (RFC 9113, 6.9.2). Callers hold out.mu.
func (c *Conn) applyWindow(size int64) error {
	delta := size - c.out.peerWindow
	c.out.peerWindow = size
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.streams {
		if s.send.window += delta; s.send.window > maxWindow {
			return connError(message.FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE makes a window overflow")
		}
		if s.send.window > 0 {
			s.send.credit.Signal()
		}
	}
	return nil
}

func (c *Conn) onPing(h frameHeader, p []byte) error {
	switch {
	case h.streamID != 0:
		return connError(message.ProtocolError, "PING on a stream")
	case len(p) != 8:
		return connError(message.FrameSizeError, "PING of a wrong length")
	}
	data := [8]byte(p)
	if h.has(flagAck) {
		c.pong(data)
		return nil
	}
	if err := c.spendControl(1, "PING"); err != nil {
		return err
	}
	if !c.out.control(c.opts.Limits.MaxQueuedControls, func(b []byte) []byte { return appendPing(b, true, data) }) {
		return errFlooded
	}
	return nil
}

func (c *Conn) onWindowUpdate(h frameHeader, p []byte) error {
	if len(p) != 4 {
		return connError(message.FrameSizeError, "WINDOW_UPDATE of a wrong length")
	}
	if err := c.spendControl(1, "WINDOW_UPDATE"); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(p) & maxWindow)
	o := &c.out
	if h.streamID == 0 {
		if n == 0 {
			return connError(message.ProtocolError, "WINDOW_UPDATE of 0 on the connection")
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.window += n; o.window > maxWindow {
			return connError(message.FlowControlError, "the connection's window exceeds 2^31-1")
		}
		o.passOn()
		return nil
	}
	s := c.lookup(h.streamID)
	if s == nil {
		if c.idle(h.streamID) && !c.tooLate(h.streamID) {
			return connError(message.ProtocolError, "WINDOW_UPDATE on an idle stream")
		}
		return nil
	}
	if n == 0 {
		return c.streamError(s, message.ProtocolError, "WINDOW_UPDATE of 0")
	}
	o.mu.Lock()
	s.send.window += n
	overflow := s.send.window > maxWindow
	s.send.credit.Signal()
	o.mu.Unlock()
	if overflow {
		return c.streamError(s, message.FlowControlError, "the stream's window exceeds 2^31-1")
	}
	return nil
}

func (c *Conn) onRSTStream(h frameHeader, p []byte) error {
	switch {
	case h.streamID == 0:
		return connError(message.ProtocolError, "RST_STREAM on stream 0")
	case len(p) != 4:
		return connError(message.FrameSizeError, "RST_STREAM of a wrong length")
	}
	s := c.lookup(h.streamID)
	if s == nil {
		if c.idle(h.streamID) && !c.tooLate(h.streamID) {
			return connError(message.ProtocolError, "RST_STREAM on an idle stream")
		}
		return c.spendControl(1, "RST_STREAM")
	}
	c.stats.resetsReceived.Add(1)
	s.fail(&message.ResetError{Code: message.ResetCode(binary.BigEndian.Uint32(p)), Remote: true})
	if c.client {
		return nil // a server resets what this side asked for: nothing is gained by it
	}
	return c.spendReset()
}

// onPriority only checks: priorities are deprecated (RFC 9113, 5.3.2), and nothing here follows them.
func (c *Conn) onPriority(h frameHeader, p []byte) error {
	if h.streamID == 0 {
		return connError(message.ProtocolError, "PRIORITY on stream 0")
	}
	if err := c.spendControl(1, "PRIORITY"); err != nil {
		return err
	}
	code := message.FrameSizeError
	if len(p) == 5 {
		if binary.BigEndian.Uint32(p)&maxStreamID != h.streamID {
			return nil
		}
		code = message.ProtocolError // a stream cannot depend on itself
	}
	if s := c.lookup(h.streamID); s != nil {
		return c.streamError(s, code, "a bad PRIORITY")
	}
	if c.idle(h.streamID) {
		// A stream that is idle cannot be reset (RFC 9113, 6.4).
		return connError(code, "a bad PRIORITY on an idle stream")
	}
	return nil
}

func (c *Conn) onGoAway(h frameHeader, p []byte) error {
	switch {
	case h.streamID != 0:
		return connError(message.ProtocolError, "GOAWAY on a stream")
	case len(p) < 8:
		return connError(message.FrameSizeError, "GOAWAY of a wrong length")
	}
	if err := c.spendControl(1, "GOAWAY"); err != nil {
		return err
	}
	last := binary.BigEndian.Uint32(p) & maxStreamID
	code := message.ResetCode(binary.BigEndian.Uint32(p[4:]))
	reason := string(p[8:min(len(p), 8+256)])
	if !c.client {
		return nil // it says only that the client takes no pushed streams
	}
	var refused []*Stream
	c.mu.Lock()
	c.goAway, c.draining = true, true
	for id, s := range c.streams {
		if id > last {
			refused = append(refused, s)
		}
	}
	finish := c.active == 0
	c.mu.Unlock()
	c.away()
	cause := &ConnError{Code: code, Remote: true, Reason: reason}
	for _, s := range refused {
		s.fail(&message.ResetError{Code: message.RefusedStream, Remote: true, Cause: cause})
	}
	if finish {
		if code != message.NoError {
			return cause
		}
		c.end(nil)
	}
	return nil
}
