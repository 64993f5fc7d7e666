package h2

import (
	"errors"
	"io"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// lifecycle is what the connection's one timer looks at. Conn.mu guards it.
type lifecycle struct {
	settled      bool      // the peer's first SETTINGS came
	settingsSent time.Time // zero: acknowledged
	lastPing     time.Time // of the keepalive
	pingSent     time.Time // zero: no answer is awaited
	graceEnds    time.Time // of Shutdown; zero: none
	drainTimeout time.Time // when the answer to the drain's PING is no longer awaited
}

// Data of our PINGs, by which their answers are told apart.
var (
	keepalivePing = [8]byte{'k', 'e', 'e', 'p', 'a', 'l', 'i', 'v'}
	drainPing     = [8]byte{'d', 'r', 'a', 'i', 'n', 'i', 'n', 'g'}
)

// drainRoundTrip is how long a drain waits for the answer to its PING before it settles the last stream without it.
const drainRoundTrip = time.Second

// Shutdown ends the connection in order: new streams are not taken, those in flight finish, then it closes; what is left
// after grace is reset (0: no limit). It does not wait; see Done.
//
// A server sends GOAWAY twice (RFC 9113, 6.8): first with the highest number, then, a round trip later, with that of the last
// stream that it really took, so that none which was under way is lost. ztunnel does not retry those.
func (c *Conn) Shutdown(grace time.Duration) {
	c.mu.Lock()
	if c.closed || c.draining {
		c.mu.Unlock()
		return
	}
	c.goAway, c.draining = true, true
	now := time.Now()
	if grace > 0 {
		c.life.graceEnds = now.Add(grace)
	}
	server := !c.client
	if server {
		c.drainPing = true
		c.life.drainTimeout = now.Add(drainRoundTrip)
	}
	finish := !server && c.active == 0
	c.schedule(now)
	c.mu.Unlock()

	c.away()
	if server {
		c.out.control(maxWindow, func(b []byte) []byte {
			return appendPing(appendGoAway(b, maxStreamID, message.NoError, ""), false, drainPing)
		})
	}
	if finish {
		c.end(nil)
	}
}

// drained is the second step of a server's Shutdown.
func (c *Conn) drained() {
	c.mu.Lock()
	if !c.drainPing || c.closed {
		c.mu.Unlock()
		return
	}
	c.drainPing = false
	last := c.lastPeerID
	c.refuseFrom = last + 1
	finish := c.active == 0
	c.mu.Unlock()
	if finish {
		c.end(nil) // sends the last GOAWAY
		return
	}
	c.out.control(maxWindow, func(b []byte) []byte { return appendGoAway(b, last, message.NoError, "") })
}

// Close ends the connection at once. Streams fail with err as the cause (nil: ErrClosed); the peer gets GOAWAY(NO_ERROR), or
// the code of err if it is a [ConnError].
func (c *Conn) Close(err error) {
	if err == nil {
		err = ErrClosed
	}
	c.end(err)
}

// closeTimeout is how long the last bytes may take before the transport is closed over them.
const closeTimeout = 2 * time.Second

// end ends the connection, once. err is why; nil or io.EOF without streams: in order.
func (c *Conn) end(err error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed, c.goAway = true, true
	if errors.Is(err, io.EOF) && c.active == 0 {
		err = nil
	}
	c.err = err
	left := make([]*Stream, 0, len(c.streams))
	for _, s := range c.streams {
		left = append(left, s)
	}
	last, serving := c.lastPeerID, c.serving
	if serving {
		c.force = time.AfterFunc(closeTimeout, func() { _ = c.rw.Close() }) // unblocks a writer whose peer does not read
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()

	code, reason := message.NoError, ""
	var ce *ConnError
	if errors.As(err, &ce) && !ce.Remote {
		code, reason = ce.Code, ce.Reason
		c.opts.Logger.Debug("h2: connection error", "code", codeName(code), "reason", reason)
	}
	c.out.close(func(b []byte) []byte { return appendGoAway(b, last, code, reason) })
	if !serving {
		_ = c.rw.Close() // nothing was ever written
		close(c.done)
	}

	c.away()
	lost := err
	if lost == nil {
		lost = ErrClosed
	}
	for _, s := range left {
		s.fail(&message.ResetError{Code: message.ConnectError, Lost: true, Cause: lost})
	}
}

// lingerBytes is how much of a broken connection is thrown away after its GOAWAY: what a well-meaning peer has under way.
const lingerBytes = 256 << 10

// linger lets the peer read why the connection has ended: a transport that is closed while there are bytes that nobody has read is
// reset (a TCP connection by the kernel, a tunnel by RST_STREAM), and the peer loses the GOAWAY that lies before. It ends when
// the peer closes its side, after lingerBytes, and after closeTimeout at the latest.
func (c *Conn) linger() {
	h, ok := c.rw.(interface{ CloseWrite() error })
	if !ok || h.CloseWrite() != nil {
		return
	}
	var b [1024]byte
	for left := lingerBytes; left > 0; {
		n, err := c.rw.Read(b[:])
		if err != nil {
			return
		}
		left -= n
	}
}

// away tells the owner, once, that no new streams are to be had.
func (c *Conn) away() {
	if c.opts.OnGoAway != nil && !c.wentAway.Swap(true) {
		c.opts.OnGoAway(c)
	}
}

func (c *Conn) startTimer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.life.lastPing, c.life.settingsSent = now, now
	c.timer = time.AfterFunc(time.Hour, c.tick)
	c.schedule(now)
}

// schedule sets the timer to the next thing that is due. Callers hold mu.
func (c *Conn) schedule(now time.Time) {
	if c.timer == nil || c.closed {
		return
	}
	var next time.Time
	consider := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if !c.life.settled {
		consider(c.began.Add(c.opts.PrefaceTimeout))
	}
	consider(c.life.graceEnds)
	if c.drainPing {
		consider(c.life.drainTimeout)
	}
	if c.opts.KeepaliveInterval > 0 {
		if c.life.pingSent.IsZero() {
			consider(c.life.lastPing.Add(c.opts.KeepaliveInterval))
		} else {
			consider(c.life.pingSent.Add(c.opts.KeepaliveTimeout))
		}
	}
	if c.opts.IdleTimeout > 0 {
		// With streams open it is looked at again later: no one touches the timer for a request.
		from := now
		if c.active == 0 {
			from = c.idleSince
		}
		consider(from.Add(c.opts.IdleTimeout))
	}
	if !next.IsZero() {
		c.timer.Reset(max(next.Sub(now), time.Millisecond))
	}
}

func (c *Conn) tick() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	now := time.Now()
	due := func(t time.Time, d time.Duration) bool { return !t.IsZero() && now.Sub(t) >= d }
	var end error
	var ping, drained, idle bool
	switch {
	case !c.life.settled && due(c.began, c.opts.PrefaceTimeout):
		end = connError(message.SettingsTimeout, "the peer's SETTINGS did not come in time")
	case due(c.life.graceEnds, 0):
		end = connError(message.NoError, "the time for draining is over")
	case c.opts.KeepaliveInterval > 0 && due(c.life.pingSent, c.opts.KeepaliveTimeout):
		end = connError(message.NoError, "the peer does not answer PING")
	case c.opts.IdleTimeout > 0 && c.active == 0 && due(c.idleSince, c.opts.IdleTimeout):
		idle = true
	}
	if c.drainPing && due(c.life.drainTimeout, 0) {
		drained = true
	}
	if c.opts.KeepaliveInterval > 0 && c.life.pingSent.IsZero() && due(c.life.lastPing, c.opts.KeepaliveInterval) {
		ping = true
		c.life.pingSent, c.life.lastPing = now, now
	}
	if end == nil {
		c.schedule(now)
	}
	c.mu.Unlock()

	switch {
	case end != nil:
		c.end(end)
		return
	case idle:
		c.Shutdown(0)
	}
	if drained {
		c.drained()
	}
	if ping {
		c.out.control(maxWindow, func(b []byte) []byte { return appendPing(b, false, keepalivePing) })
	}
}

// pong takes the answer to one of our PINGs.
func (c *Conn) pong(data [8]byte) {
	switch data {
	case drainPing:
		c.drained()
	case keepalivePing:
		c.mu.Lock()
		now := time.Now()
		if !c.life.pingSent.IsZero() {
			c.measured(now.Sub(c.life.pingSent))
			c.life.pingSent = time.Time{}
			c.schedule(now)
		}
		c.mu.Unlock()
	}
}

// measured notes a round trip; the shortest is the least disturbed by load.
func (c *Conn) measured(rtt time.Duration) {
	if old := c.rtt.Load(); old == 0 || int64(rtt) < old {
		c.rtt.Store(int64(rtt))
	}
}
