//go:build !race

package grpcstats_test

import (
	"testing"

	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	. "github.com/gowaypoint/gowaypoint/waypoint/filter/filtertest"
)

// The race detector makes sync.Pool drop things on purpose, hence the build constraint.
func TestDoesNotAllocate(t *testing.T) {
	f := compile(t, `{"emit_filter_state":true}`)
	x := New("POST", "/s/m", "content-type: application/grpc")
	b := messages(10)
	if n := testing.AllocsPerRun(1000, func() {
		f.Request(x)
		f.(filter.Body).RequestData(x, b)
		f.(filter.Finisher).Finish(x)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
