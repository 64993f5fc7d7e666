//go:build !race

package rbac_test

import (
	"testing"

	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	. "github.com/gowaypoint/gowaypoint/waypoint/filter/filtertest"
)

// The race detector makes sync.Pool drop things on purpose, hence the build constraint.
func TestRequestDoesNotAllocate(t *testing.T) {
	for name, rules := range map[string]string{
		"get only": one("ALLOW", "ns[default]-policy[allow-get]-rule[0]", method("GET"), anybody),
		"who": one("ALLOW", "p", `{"destination_port":80}`,
			`{"filter_state":{"key":"io.istio.peer_principal","string_match":{"exact":"`+Principal+`"}}}`),
	} {
		f := compile(t, metrics.NewStats(), `{"rules":`+rules+`}`)
		x := New("GET", "/")
		n := testing.AllocsPerRun(1000, func() {
			if f.Request(x) != filter.Continue {
				t.Fatal(name + ": denied")
			}
			x.Metadata.Reset()
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkGetOnly(b *testing.B) {
	f := compile(b, metrics.NewStats(), `{"rules":`+one("ALLOW", "p", method("GET"), anybody)+`}`)
	x := New("GET", "/")
	b.ReportAllocs()
	for b.Loop() {
		f.Request(x)
		x.Metadata.Reset()
	}
}
