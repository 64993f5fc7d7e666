//go:build envoy

package authzbench

import (
	"context"
	"testing"
	"time"
)

// The real Envoy agrees too, and can be measured.
func TestEnvoyAgrees(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	sizes := []int{1, 300}
	e, err := StartEnvoy(ctx, sizes)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	}()
	for _, n := range sizes {
		for r, want := range Sample(n) {
			if got, err := e.Decide(n, r); err != nil || got != want {
				t.Errorf("%d policies, %+v: allowed %v, %v; want %v", n, r, got, err, want)
			}
		}
	}
	cost, err := e.Measure(ctx, NoRBAC, 300*time.Millisecond)
	if err != nil || cost.Requests == 0 || cost.CPU == 0 {
		t.Errorf("%+v, %v", cost, err)
	}
}
