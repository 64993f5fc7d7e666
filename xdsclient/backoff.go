package xdsclient

import (
	"math/rand/v2"
	"time"
)

// Backoff is an exponential back-off with jitter: attempt n (from 0) waits a random time between the half and the whole of
// Initial·2ⁿ, at most Max. Never less than the half, because istiod limits the rate of new streams; random, because all proxies
// lose a restarted istiod at the same moment. A stream that was answered and lived for at least Max starts the count anew.
type Backoff struct {
	Initial time.Duration // default 500 ms
	Max     time.Duration // default 30 s
}

func (b Backoff) withDefaults() Backoff {
	if b.Initial <= 0 {
		b.Initial = defaultInitialBackoff
	}
	if b.Max <= 0 {
		b.Max = defaultMaxBackoff
	}
	b.Max = max(b.Max, b.Initial)
	return b
}

// wait returns how long to wait before the attempt that follows n failed ones. random is in [0, 1).
func (b Backoff) wait(n int, random float64) time.Duration {
	d := b.Initial
	for range n {
		if d >= b.Max/2 {
			d = b.Max
			break
		}
		d *= 2
	}
	return d/2 + time.Duration(random*float64(d/2))
}

// next is wait with a random number.
func (b Backoff) next(n int) time.Duration { return b.wait(n, rand.Float64()) }
