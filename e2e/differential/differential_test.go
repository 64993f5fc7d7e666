//go:build envoy

package differential

import (
	"context"
	"flag"
	"testing"
	"time"
)

var (
	pairs = flag.Int("pairs", 20_000, "how many pairs to compare")
	seed  = flag.Uint64("seed", 1, "what the pairs are made from")
)

func TestHTTP(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Hour)
	defer cancel()
	e := shared(t)
	r, err := HTTP(ctx, e, *seed, *pairs)
	if err != nil {
		t.Errorf("%v\n%s", err, e.Log())
	}
	t.Log(r)
	for _, f := range r.Failures {
		if err := f.Shrink(ctx, e); err != nil {
			t.Error(err)
		}
		t.Errorf("%s\n%s\non %v: %q\n%s", f.Set.Origin, f.What, f.Conn, f.Request.AppendWire(nil, ""), f.Fixture(e.Port(f.Conn.Listener)))
	}
	if r.Failed > len(r.Failures) {
		t.Errorf("%d pairs differ; of each set at most one is shown, and no more than %d", r.Failed, keep)
	}
}

// TCP sessions cost a connection each, so there are fewer: a twentieth.
func TestTCP(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	r, err := TCP(ctx, *seed, *pairs/20)
	if err != nil {
		t.Error(err)
	}
	t.Log(r)
	for _, f := range r.Failures {
		if err := f.ShrinkTCP(ctx); err != nil {
			t.Error(err)
		}
		t.Errorf("%s\n%s\non %v\n%s", f.Set.Origin, f.What, f.Conn, f.Fixture(0))
	}
}
