//go:build envoy

package differential

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/differential/reference"
)

var (
	pairs = flag.Int("pairs", 20_000, "how many pairs to compare")
	seed  = flag.Uint64("seed", 1, "what the pairs are made from")
)

func TestHTTP(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	e, err := reference.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	start := time.Now()
	r, err := HTTP(ctx, e, *seed, *pairs)
	if err != nil {
		t.Errorf("%v\n%s", err, e.Log())
	}
	t.Logf("%d pairs, %d sets in %v; %d denied, %d named; malformed %v, explained %v; failed %d", r.Pairs, r.Sets, time.Since(start), r.Denied, r.Named, r.Malformed, r.Explained, r.Failed)
	for _, f := range r.Failures {
		if err := f.Shrink(ctx, e); err != nil {
			t.Error(err)
		}
		t.Errorf("%s\n%s\non %v: %q\n%s", f.Set.Origin, f.What, f.Conn, f.Request.AppendWire(nil, ""), f.Fixture(e))
	}
}
