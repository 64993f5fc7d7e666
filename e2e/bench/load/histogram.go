package load

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram counts durations with a relative error of less than 1 %: 128 buckets for each power of two of nanoseconds. The zero
// value is empty and ready. It is safe for concurrent use.
type Histogram struct {
	buckets [(64 - subBits) << subBits]atomic.Uint64
	count   atomic.Uint64
}

const subBits = 7 // 2^7 buckets per power of two: 1/128 < 1 %

func bucketOf(ns uint64) int {
	shift := max(bits.Len64(ns)-subBits-1, 0)
	return shift<<subBits + int(ns>>shift) //nolint:gosec // less than 2^(subBits+1)
}

// upper is the largest value of a bucket.
func upper(bucket int) uint64 {
	shift := max(bucket>>subBits-1, 0)
	return uint64(bucket-shift<<subBits+1)<<shift - 1 //nolint:gosec // not negative
}

// Add counts d; a negative one counts as 0.
func (h *Histogram) Add(d time.Duration) {
	h.buckets[bucketOf(uint64(max(d, 0)))].Add(1) //nolint:gosec // not negative
	h.count.Add(1)
}

// Count is the number of durations.
func (h *Histogram) Count() uint64 { return h.count.Load() }

// Quantile returns the duration that the given part of all does not exceed (0.99: p99), rounded up by less than 1 %; 0 if
// there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	want := uint64(q * float64(h.count.Load()))
	sum := uint64(0)
	last := 0
	for i := range h.buckets {
		n := h.buckets[i].Load()
		if n == 0 {
			continue
		}
		last = i
		if sum += n; sum > want {
			break
		}
	}
	if sum == 0 {
		return 0
	}
	return time.Duration(upper(last)) //nolint:gosec // fits: it came from a Duration
}
