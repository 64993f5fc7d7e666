package grpcstats_test

import (
	"encoding/binary"
	"sync"
	"testing"

	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	. "github.com/gowaypoint/gowaypoint/waypoint/filter/filtertest"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/grpcstats"

	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
)

func compile(t *testing.T, config string) filter.HTTP {
	t.Helper()
	return Build(t, grpcstats.HTTP(), "envoy.filters.http.grpc_stats", Parse(t, &grpcstatsv3.FilterConfig{}, config))
}

// messages are gRPC frames of the given sizes.
func messages(sizes ...int) (b []byte) {
	for _, n := range sizes {
		b = append(b, 0)
		b = binary.BigEndian.AppendUint32(b, uint32(n))
		b = append(b, make([]byte, n)...)
	}
	return b
}

func TestCounts(t *testing.T) {
	f := compile(t, `{"emit_filter_state":true,"stats_for_all_methods":false}`)
	if len(Notes(f)) != 0 {
		t.Errorf("notes %q", Notes(f))
	}
	body := f.(filter.Body)
	for _, piece := range []int{1, 2, 4, 5, 6, 7, 100, 1 << 20} {
		x := New("POST", "/s/m", "content-type: application/grpc+proto")
		f.Request(x)
		request, response := messages(0, 0, 3, 1000, 5), messages(70000, 0)
		var both sync.WaitGroup // as in life: each direction has its goroutine
		both.Go(func() { pieces(request, piece, func(p []byte) { body.RequestData(x, p) }) })
		both.Go(func() { pieces(response, piece, func(p []byte) { body.ResponseData(x, p) }) })
		both.Wait()
		if q, r := x.Messages.Requests.Load(), x.Messages.Responses.Load(); q != 5 || r != 2 {
			t.Errorf("in pieces of %d: %d requests, %d responses so far", piece, q, r)
		}
		f.(filter.Finisher).Finish(x)
		if q, r := x.Record.RequestMessages, x.Record.ResponseMessages; q != 5 || r != 2 {
			t.Errorf("in pieces of %d: %d requests, %d responses", piece, q, r)
		}
		if x.Messages != nil || x.Local(f) != nil {
			t.Error("Finish leaves something behind")
		}
	}
}

func pieces(b []byte, n int, take func([]byte)) {
	for len(b) > n {
		take(b[:n])
		b = b[n:]
	}
	take(b)
}

func TestACutOffMessageCounts(t *testing.T) {
	f := compile(t, `{"emit_filter_state":true}`)
	x := New("POST", "/s/m", "content-type: application/grpc")
	f.Request(x)
	f.(filter.Body).RequestData(x, messages(3, 10)[:9])
	f.(filter.Finisher).Finish(x)
	if x.Record.RequestMessages != 2 {
		t.Errorf("%d messages", x.Record.RequestMessages)
	}
}

func TestOthersAreNotCounted(t *testing.T) {
	f := compile(t, `{"emit_filter_state":true}`)
	x := New("POST", "/s/m", "content-type: application/json")
	f.Request(x)
	f.(filter.Body).RequestData(x, messages(1))
	f.(filter.Finisher).Finish(x)
	if x.Record.RequestMessages != 0 {
		t.Errorf("%d messages of what is not gRPC", x.Record.RequestMessages)
	}
	f = compile(t, `{"emit_filter_state":false,"stats_for_all_methods":true}`)
	if _, ok := f.(filter.Body); ok || len(Notes(f)) != 1 {
		t.Errorf("without emit_filter_state: sees bodies (%v), notes %q", ok, Notes(f))
	}
}
