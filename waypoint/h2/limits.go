package h2

import (
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// Limits bound what a peer can make this side do without doing anything useful itself. Whoever exceeds one gets
// GOAWAY(ENHANCE_YOUR_CALM). Zero fields take their defaults.
type Limits struct {
	// MaxHeaderFields is the number of fields in one head or in trailers; more is answered like a list that is too large.
	// Default 100, as Envoy. Cookie crumbs count one by one.
	MaxHeaderFields int

	// MaxContinuations is the number of CONTINUATION frames in one header block. Default 16: with full frames that is four
	// times the header list limit. Without a limit a peer keeps the reader decoding for nothing (CVE-2024-27316).
	MaxContinuations int

	// ResetBurst and ResetsPerSecond bound streams that are given up: RST_STREAM by the peer (CVE-2023-44487, "rapid reset")
	// and streams that this side resets for the peer's fault (CVE-2025-8671, "MadeYouReset"). Each stream that completes
	// allows one more. Defaults 500, Envoy's threshold for premature resets, and 50.
	ResetBurst      int
	ResetsPerSecond int

	// ControlBurst and ControlsPerSecond bound frames that move no data: PING (CVE-2019-9512), PRIORITY (-9513), SETTINGS
	// (-9515; one counts ten, since it may touch every stream), DATA and HEADERS without content (-9518), WINDOW_UPDATE and
	// frames of unknown type. Each frame that moves data, in either direction, allows twenty more: peers that
	// measure bandwidth PING once per round trip. Defaults 1,000 and 100; Envoy holds at most 1,000 control frames, and
	// allows ten WINDOW_UPDATEs for each of its DATA frames, which are half as long.
	ControlBurst      int
	ControlsPerSecond int

	// MaxQueuedControls is the number of control frames that may wait in the output while the peer does not read. Default
	// 1,000, as Envoy.
	MaxQueuedControls int

	// MaxInformational is the number of informational responses to one request. Default 16; more than a few are never of
	// use, and each waits in memory until it is read.
	MaxInformational int
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.MaxHeaderFields, 100)
	setDefault(&l.MaxContinuations, 16)
	setDefault(&l.ResetBurst, 500)
	setDefault(&l.ResetsPerSecond, 50)
	setDefault(&l.ControlBurst, 1000)
	setDefault(&l.ControlsPerSecond, 100)
	setDefault(&l.MaxQueuedControls, 1000)
	setDefault(&l.MaxInformational, 16)
	return l
}

// bucket is a token bucket that looks at the clock only when it is empty. It belongs to the reader.
type bucket struct {
	tokens, burst, perSecond int
	filled                   time.Time
	// earned is taken before tokens. It is not bounded by burst: a client that takes a long download in small reads may answer
	// a window full of DATA with thousands of WINDOW_UPDATEs before it gets any more.
	earned int
}

func newBucket(burst, perSecond int) bucket {
	return bucket{tokens: burst, burst: burst, perSecond: perSecond, filled: time.Now()}
}

func (b *bucket) take(n int) bool {
	if b.earned >= n {
		b.earned -= n
		return true
	}
	b.tokens -= n
	if b.tokens >= 0 {
		return true
	}
	now := time.Now()
	earned := int(min(now.Sub(b.filled), time.Minute) * time.Duration(b.perSecond) / time.Second)
	if earned > 0 {
		b.filled = now
		b.give(earned)
	}
	return b.tokens >= 0
}

func (b *bucket) give(n int) { b.tokens = min(b.tokens+n, b.burst) }

// controlsPerData is how many control frames one frame with data allows. The longest DATA frame that is sent (32 KiB), read 4 KiB at
// a time, is answered with 16: a WINDOW_UPDATE for the stream and one for the connection each time. golang.org/x/net does so.
const controlsPerData = 20

// maxEarned bounds what DATA that was sent allows: enough for a WINDOW_UPDATE of 4 KiB for the stream and one for the connection
// over windows of 2 GiB, the largest there are.
const maxEarned = 1 << 20

// spendControl accounts for a frame that moves no data.
func (c *Conn) spendControl(n int, what string) error {
	if sent := c.out.dataFrames.Swap(0); sent > 0 {
		c.controls.earned = int(min(int64(c.controls.earned)+sent*controlsPerData, maxEarned))
	}
	if !c.controls.take(n) {
		return connError(message.EnhanceYourCalm, "too many "+what+" frames")
	}
	return nil
}

// spendReset accounts for a stream that was given up by the peer or through its fault.
func (c *Conn) spendReset() error {
	if done := c.completed.Swap(0); done > 0 {
		c.resets.give(int(min(done, 1<<20)))
	}
	if !c.resets.take(1) {
		return connError(message.EnhanceYourCalm, "too many streams were reset")
	}
	return nil
}
