package load_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/bench/backend"
	"github.com/gowaypoint/gowaypoint/e2e/bench/load"
	"github.com/gowaypoint/gowaypoint/e2e/bench/mesh"
)

// The load can speak to the backend without a proxy between them; what comes out is what both cost by themselves.
func direct(t *testing.T) (load.Target, *backend.Server) {
	t.Helper()
	ca, err := mesh.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Issue("default", "client")
	if err != nil {
		t.Fatal(err)
	}
	pod, err := ca.Issue("default", "helloworld")
	if err != nil {
		t.Fatal(err)
	}
	b, err := backend.Start("127.0.0.1:0", "127.0.0.2:8080", pod.TLS(client.SPIFFE))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return load.Target{Addr: b.Addr(), TLS: client.TLS(pod.SPIFFE), Authority: "127.0.0.2:8080", Service: "helloworld"}, b
}

func dial(t *testing.T, target load.Target, conns, each int) ([]*load.Conn, []*load.Tunnel) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cs, err := load.DialAll(ctx, target, conns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { load.CloseAll(cs) })
	ts, err := load.Tunnels(ctx, cs, each, target.Get("/", backend.BodyLength))
	if err != nil {
		t.Fatal(err)
	}
	return cs, ts
}

func TestClosedLoopCountsWhatTheBackendAnswered(t *testing.T) {
	target, b := direct(t)
	_, tunnels := dial(t, target, 2, 10)
	before := b.Requests()
	r, err := load.Closed(context.Background(), tunnels, target.Get("/", backend.BodyLength), load.Window{Measure: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	served := uint64(b.Requests() - before)
	if r.Requests == 0 || r.Requests > served || served-r.Requests > uint64(len(tunnels)) {
		t.Errorf("%d requests counted, %d served", r.Requests, served)
	}
	if b.Tunnels() != 20 || b.Connections() != 2 || b.Err() != nil {
		t.Errorf("%d tunnels on %d connections, error %v", b.Tunnels(), b.Connections(), b.Err())
	}
	if p50, p99 := r.Latency.Quantile(0.5), r.Latency.Quantile(0.99); p50 <= 0 || p99 < p50 {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
}

func TestOpenLoopKeepsItsRate(t *testing.T) {
	target, _ := direct(t)
	_, tunnels := dial(t, target, 2, 10)
	r, err := load.Open(context.Background(), tunnels, target.Get("/", backend.BodyLength), 1000,
		load.Window{Warm: 100 * time.Millisecond, Measure: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if rate := r.Rate(); rate < 950 || rate > 1050 {
		t.Errorf("%.0f requests per second, want 1000; late p50 %v", rate, r.Late.Quantile(0.5))
	}
}

// A backend that takes long for one answer: requests that became due meanwhile have waited, though they were sent late.
func TestOpenLoopCountsWaitingBeforeSending(t *testing.T) {
	target, _ := direct(t)
	_, tunnels := dial(t, target, 1, 1)
	slow := target.Get("/bytes/20000", 20000)
	slow.Rate = 100_000 // 200 ms for each answer, four times the distance of requests
	r, err := load.Open(context.Background(), tunnels, slow, 20, load.Window{Measure: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if p90 := r.Latency.Quantile(0.9); p90 < 800*time.Millisecond {
		t.Errorf("p90 is %v; the last requests had waited for more than a second", p90)
	}
}

func TestChurnOpensATunnelForEachRequest(t *testing.T) {
	target, b := direct(t)
	conns, _ := dial(t, target, 1, 0)
	r, err := load.Churn(context.Background(), conns, 10, target.Get("/", backend.BodyLength), load.Window{Measure: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests == 0 || b.Tunnels() != b.Requests() {
		t.Errorf("%d requests counted, %d served through %d tunnels", r.Requests, b.Requests(), b.Tunnels())
	}
}

func TestOnceTakesWholeBodies(t *testing.T) {
	target, _ := direct(t)
	_, tunnels := dial(t, target, 2, 2)
	r, err := load.Once(context.Background(), tunnels, target.Get("/bytes/3000000", 3_000_000), load.Window{Measure: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 4 {
		t.Errorf("%d answers, want 4", r.Requests)
	}
}

func TestWrongAnswerFailsTheRun(t *testing.T) {
	target, _ := direct(t)
	for name, r := range map[string]*load.Request{
		"length":  target.Get("/", 499),
		"status":  {Bytes: target.Get("/", 500).Bytes, Status: 403, Length: 500},
		"content": {Bytes: target.Get("/", 500).Bytes, Status: 200, Length: 500, Body: []byte("RBAC: access denied")},
	} {
		t.Run(name, func(t *testing.T) {
			_, tunnels := dial(t, target, 1, 1)
			_, err := load.Closed(context.Background(), tunnels, r, load.Window{Measure: 10 * time.Second})
			if err == nil || !strings.Contains(err.Error(), "answer") {
				t.Errorf("error %v; want one about the answer", err)
			}
		})
	}
}

func TestUnknownAuthorityIsNoTunnel(t *testing.T) {
	target, b := direct(t)
	conns, _ := dial(t, target, 1, 0)
	_ = conns
	target.Authority = "127.0.0.9:8080"
	other, err := load.Dial(context.Background(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Tunnel(); err == nil {
		t.Error("a tunnel to another pod")
	}
	if b.Err() == nil {
		t.Error("the backend has not noticed")
	}
}
