package load

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantilesAgainstSorting(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test
	var h Histogram
	var all []time.Duration
	for range 100_000 {
		d := time.Duration(r.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		h.Add(d)
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[min(int(q*float64(len(all))), len(all)-1)]
		got := h.Quantile(q)
		if got < want || float64(got) > float64(want)*1.01+1 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

func TestBucketsAreContiguous(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 129, 255, 256, 257, 1 << 20, 1<<20 + 1, 1<<40 - 1, 1<<63 - 1} {
		b := bucketOf(v)
		if upper(b) < v || b > 0 && upper(b-1) >= v {
			t.Errorf("%d is in bucket %d, which is from %d to %d", v, b, upper(b-1)+1, upper(b))
		}
	}
}

func TestEmptyHistogram(t *testing.T) {
	var h Histogram
	if got := h.Quantile(0.99); got != 0 {
		t.Errorf("quantile of nothing is %v", got)
	}
}
