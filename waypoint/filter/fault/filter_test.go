package fault

import (
	"strings"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	. "github.com/gowaypoint/gowaypoint/waypoint/filter/filtertest"

	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
)

// run sends a request through a filter whose routes have the given fault. draws are what chance draws, one after the other.
type run struct {
	f     *httpFilter
	c     filter.Compiler[filter.HTTP]
	stats *metrics.Stats
	draws []uint64
	slept time.Duration
	gone  bool
}

func newRun(t *testing.T) *run {
	r := &run{stats: metrics.NewStats()}
	r.c = compiler(r.stats, func(n uint64) uint64 {
		if len(r.draws) == 0 {
			t.Fatal("drawn once too often")
		}
		d := r.draws[0]
		r.draws = r.draws[1:]
		return d
	})
	r.f = Build(t, r.c, "envoy.filters.http.fault", &faultv3.HTTPFault{}).(*httpFilter)
	return r
}

func (r *run) request(t *testing.T, config string, headers ...string) (*filter.Exchange, filter.Action) {
	t.Helper()
	route, err := r.c.NewRoute(Parse(t, &faultv3.HTTPFault{}, config))
	if err != nil {
		t.Fatal(err)
	}
	x := New("GET", "/", headers...)
	Route(x, route)
	r.slept = 0
	x.Wait = func(d time.Duration) bool { r.slept += d; return !r.gone }
	return x, r.f.Request(x)
}

func (r *run) expect(t *testing.T, want map[string]uint64) {
	t.Helper()
	for name, n := range want {
		if got, _ := r.stats.Lookup("http.fault." + name); got != n {
			t.Errorf("%s is %d, want %d", name, got, n)
		}
	}
}

const all = `"percentage":{"numerator":100}`

func TestNothingIsConfigured(t *testing.T) {
	r := newRun(t)
	x := New("GET", "/")
	if r.f.Request(x) != filter.Continue || x.Record.Flags != 0 {
		t.Error("the empty filter did something")
	}
}

func TestAbort(t *testing.T) {
	r := newRun(t)
	x, a := r.request(t, `{"abort":{"http_status":418,`+all+`},"filter_metadata":{"why":"test"}}`)
	if a != filter.Stop {
		t.Fatal("not aborted")
	}
	got := x.TakeReply()
	if got.Status != 418 || got.Body != "fault filter abort" || got.Details != "fault_filter_abort" || got.Flag != telemetry.FlagFaultInjected {
		t.Errorf("%+v", got)
	}
	if x.Metadata.Get("envoy.filters.http.fault", "why").GetStringValue() != "test" {
		t.Error("filter_metadata was not written")
	}
	r.expect(t, map[string]uint64{"aborts_injected": 1, "delays_injected": 0, "active_faults": 1})
	r.f.Finish(x)
	r.f.Finish(x)
	r.expect(t, map[string]uint64{"active_faults": 0})
}

func TestGRPCAbort(t *testing.T) {
	x, a := newRun(t).request(t, `{"abort":{"grpc_status":14,"response_body":"mine",`+all+`}}`)
	got := x.TakeReply()
	if code, ok := got.GRPC.Code(); a != filter.Stop || !ok || code != 14 || got.Status != 200 || got.Body != "mine" {
		t.Errorf("%v %+v", a, got)
	}
}

func TestDelayThenAbort(t *testing.T) {
	r := newRun(t)
	config := `{"delay":{"fixed_delay":"2s",` + all + `},"abort":{"http_status":503,` + all + `}}`
	x, a := r.request(t, config)
	if a != filter.Stop || r.slept != 2*time.Second || x.Record.Flags.String() != "DI,FI" {
		t.Errorf("%v after %v, flags %v", a, r.slept, x.Record.Flags)
	}
	r.expect(t, map[string]uint64{"aborts_injected": 1, "delays_injected": 1, "active_faults": 1})
	r.f.Finish(x)
	// A client that gave up meanwhile is not answered.
	r.gone = true
	if x, a = r.request(t, config); a != filter.Continue || x.Record.Flags.String() != "DI" {
		t.Errorf("%v, flags %v", a, x.Record.Flags)
	}
}

func TestPercentages(t *testing.T) {
	r := newRun(t)
	config := `{"delay":{"fixed_delay":"1s","percentage":{"numerator":5,"denominator":"TEN_THOUSAND"}},"abort":{"http_status":503,"percentage":{"numerator":50}}}`
	for _, c := range []struct {
		draws []uint64
		flags string
	}{
		{[]uint64{4, 49}, "DI,FI"}, {[]uint64{5, 49}, "FI"}, {[]uint64{4, 50}, "DI"}, {[]uint64{9999, 99}, "-"},
	} {
		r.draws = c.draws
		if x, _ := r.request(t, config); x.Record.Flags.String() != c.flags || len(r.draws) > 0 {
			t.Errorf("drawing %v: flags %v, want %s", c.draws, x.Record.Flags, c.flags)
		}
	}
	if x, _ := r.request(t, `{"abort":{"http_status":503}}`); x.Record.Flags != 0 { // no percentage is none
		t.Errorf("flags %v", x.Record.Flags)
	}
}

func TestMaxActiveFaults(t *testing.T) {
	r := newRun(t)
	config := `{"max_active_faults":1,"abort":{"http_status":503,` + all + `}}`
	first, a := r.request(t, config)
	if a != filter.Stop {
		t.Fatal("not aborted")
	}
	if _, a = r.request(t, config); a != filter.Continue {
		t.Error("a second fault at the same time")
	}
	r.expect(t, map[string]uint64{"faults_overflow": 1})
	r.f.Finish(first)
	if _, a = r.request(t, config); a != filter.Stop {
		t.Error("the first is over, and no fault came")
	}
}

func TestByHeader(t *testing.T) {
	r := newRun(t)
	config := `{"delay":{"header_delay":{},` + all + `},"abort":{"header_abort":{},"percentage":{"numerator":50}}}`
	if x, a := r.request(t, config); a != filter.Continue || x.Record.Flags != 0 {
		t.Error("a fault that nobody asked for")
	}
	r.draws = []uint64{10}
	x, a := r.request(t, config, "x-envoy-fault-delay-request: 1500", "x-envoy-fault-abort-request: 429")
	if got := x.TakeReply(); a != filter.Stop || r.slept != 1500*time.Millisecond || got.Status != 429 {
		t.Errorf("%v after %v: %+v", a, r.slept, got)
	}
	r.draws = []uint64{10}
	x, _ = r.request(t, config, "x-envoy-fault-abort-grpc-request: 3", "x-envoy-fault-abort-request: 429")
	if code, _ := x.TakeReply().GRPC.Code(); code != 3 {
		t.Errorf("grpc-status %d", code)
	}
	// A smaller share, but not a larger one.
	r.draws = []uint64{10}
	if _, a = r.request(t, config, "x-envoy-fault-abort-request: 429", "x-envoy-fault-abort-request-percentage: 10"); a != filter.Continue {
		t.Error("percentage 10 hits 10")
	}
	r.draws = []uint64{50}
	if _, a = r.request(t, config, "x-envoy-fault-abort-request: 429", "x-envoy-fault-abort-request-percentage: 100"); a != filter.Continue {
		t.Error("a client made the share larger")
	}
	for _, bad := range []string{"99", "600", "-1", "x", ""} {
		if _, a = r.request(t, config, "x-envoy-fault-abort-request: "+bad); a != filter.Continue {
			t.Errorf("status %q was accepted", bad)
		}
	}
	// Without header_abort and header_delay nobody asks.
	if x, a := r.request(t, `{"abort":{"http_status":503}}`, "x-envoy-fault-abort-request: 429", "x-envoy-fault-delay-request: 5"); a != filter.Continue || r.slept != 0 {
		t.Errorf("%v, slept %v, flags %v", a, r.slept, x.Record.Flags)
	}
}

func TestDownstreamNodes(t *testing.T) {
	r := newRun(t)
	config := `{"downstream_nodes":["a"],"abort":{"http_status":503,` + all + `}}`
	if _, a := r.request(t, config, "x-envoy-downstream-service-node: a"); a != filter.Stop {
		t.Error("node a passed")
	}
	if _, a := r.request(t, config); a != filter.Continue {
		t.Error("no node was hit")
	}
}

func TestRefusedAndNoted(t *testing.T) {
	c := HTTP(metrics.NewStats())
	for config, want := range map[string]string{
		`{"headers":[{"name":"x","present_match":true}]}`: "headers",
		`{"upstream_cluster":"x"}`:                        "upstream_cluster",
		`{"abort":{"http_status":99}}`:                    "HttpStatus",
		`{"abort":{"percentage":{"numerator":1}}}`:        "ErrorType",
		`{"delay":{"fixed_delay":"-1s"}}`:                 "FixedDelay",
	} {
		if _, err := c.NewRoute(Parse(t, &faultv3.HTTPFault{}, config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives error %v", config, err)
		}
	}
	v, err := c.NewRoute(Parse(t, &faultv3.HTTPFault{}, `{"response_rate_limit":{"fixed_limit":{"limit_kbps":1}},"abort_percent_runtime":"x"}`))
	if err != nil || len(Notes(v)) != 2 {
		t.Errorf("notes %q, error %v", Notes(v), err)
	}
}
