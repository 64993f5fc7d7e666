package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

func endpoint(addr string, weight, priority uint32, health program.Health) *program.Endpoint {
	return &program.Endpoint{Key: addr, Display: addr, Address: netip.MustParseAddrPort(addr), Weight: weight, Priority: priority,
		Health: health, Hops: []program.Hop{{Dial: addr}}}
}

func single(t *testing.T, cfg *program.Cluster) (*Manager, *Cluster) {
	t.Helper()
	m := NewManager(Options{})
	t.Cleanup(m.Close)
	cfg.Name = "c"
	if cfg.Limits == (program.CircuitBreakers{}) {
		cfg.Limits = program.CircuitBreakers{MaxConnections: unlimited, MaxPending: unlimited, MaxRequests: unlimited, MaxRetries: unlimited}
	}
	m.Update(&program.Program{Clusters: map[string]*program.Cluster{"c": cfg}})
	return m, m.Get("c")
}

// share picks n times and returns each endpoint's part.
func share(t *testing.T, c *Cluster, n int) map[string]float64 {
	t.Helper()
	got := map[string]float64{}
	for range n {
		h, err := c.Pick(&PickContext{})
		if err != nil {
			t.Fatal(err)
		}
		got[h.Key] += 1 / float64(n)
	}
	return got
}

func near(a, b float64) bool { return math.Abs(a-b) < 0.05 }

func TestPolicies(t *testing.T) {
	three := func(wa, wb, wc uint32) []*program.Endpoint {
		return []*program.Endpoint{endpoint("10.0.0.1:80", wa, 0, 0), endpoint("10.0.0.2:80", wb, 0, 0), endpoint("10.0.0.3:80", wc, 0, 0)}
	}
	for _, p := range []program.LBPolicy{program.LeastRequest, program.RoundRobin, program.Random} {
		_, c := single(t, &program.Cluster{Endpoints: three(1, 1, 1), LB: program.LB{Policy: p}})
		for k, s := range share(t, c, 9000) {
			if !near(s, 1.0/3) {
				t.Errorf("policy %d, equal weights: %s gets %.2f", p, k, s)
			}
		}
		if p == program.LeastRequest {
			continue // weight and load together decide there
		}
		_, c = single(t, &program.Cluster{Endpoints: three(1, 1, 2), LB: program.LB{Policy: p}})
		if s := share(t, c, 9000); !near(s["10.0.0.3:80"], 0.5) || !near(s["10.0.0.1:80"], 0.25) {
			t.Errorf("policy %d, weights 1 1 2: %v", p, s)
		}
	}
}

func TestLeastRequestAvoidsTheBusy(t *testing.T) {
	_, c := single(t, &program.Cluster{Endpoints: []*program.Endpoint{endpoint("10.0.0.1:80", 1, 0, 0), endpoint("10.0.0.2:80", 1, 0, 0)}})
	busy := c.Hosts()[0]
	for range 10 {
		busy.Begin()
	}
	if s := share(t, c, 4000); !near(s[busy.Key], 0.25) { // picked only when both choices fall on it
		t.Errorf("the busy one gets %.2f", s[busy.Key])
	}
}

func TestUnhealthyAndPriorities(t *testing.T) {
	up, down := program.Healthy, program.Unhealthy
	_, c := single(t, &program.Cluster{Endpoints: []*program.Endpoint{endpoint("10.0.0.1:80", 1, 0, up), endpoint("10.0.0.2:80", 1, 0, down)}})
	if s := share(t, c, 100); s["10.0.0.1:80"] < 0.999 {
		t.Errorf("an unhealthy endpoint was picked: %v", s)
	}
	_, c = single(t, &program.Cluster{Endpoints: []*program.Endpoint{endpoint("10.0.0.1:80", 1, 0, down)}})
	if _, err := c.Pick(&PickContext{}); !errors.Is(err, ErrNoHealthyHost) {
		t.Errorf("panic threshold 0: %v", err)
	}
	_, c = single(t, &program.Cluster{Endpoints: []*program.Endpoint{endpoint("10.0.0.1:80", 1, 0, down)}, LB: program.LB{PanicThreshold: 50}})
	if _, err := c.Pick(&PickContext{}); err != nil {
		t.Errorf("panic threshold 50: %v", err)
	}
	// Half of priority 0 is healthy: 1.4 × 0.5 of the load stays there, the rest spills.
	_, c = single(t, &program.Cluster{Endpoints: []*program.Endpoint{
		endpoint("10.0.0.1:80", 1, 0, up), endpoint("10.0.0.2:80", 1, 0, down), endpoint("10.0.1.1:80", 1, 1, up)}})
	if s := share(t, c, 9000); !near(s["10.0.0.1:80"], 0.7) || !near(s["10.0.1.1:80"], 0.3) {
		t.Errorf("spill-over: %v", s)
	}
}

func TestPreviousHostsAreSkipped(t *testing.T) {
	_, c := single(t, &program.Cluster{Endpoints: []*program.Endpoint{endpoint("10.0.0.1:80", 1, 0, 0), endpoint("10.0.0.2:80", 1, 0, 0)}})
	first := c.Hosts()[0]
	same := 0
	for range 1000 {
		h, err := c.Pick(&PickContext{Skip: []*Host{first}, SkipAttempts: 5})
		if err != nil {
			t.Fatal(err)
		}
		if h == first {
			same++
		}
	}
	if same > 60 { // 2^-6
		t.Errorf("the host of the attempt before was picked again %d times of 1000", same)
	}
}

// A push that changes a cluster's endpoints keeps the state of those that stay, and a cluster that is gone serves those who
// are on their way to it until it is pruned.
func TestStateOutlivesAPush(t *testing.T) {
	a, b := endpoint("10.0.0.1:80", 1, 0, 0), endpoint("10.0.0.2:80", 1, 0, 0)
	m, c := single(t, &program.Cluster{Endpoints: []*program.Endpoint{a}})
	h := c.Hosts()[0]
	h.Begin()
	m.Update(&program.Program{Clusters: map[string]*program.Cluster{"c": {Name: "c", Endpoints: []*program.Endpoint{b, a}}}})
	if c != m.Get("c") || len(c.Hosts()) != 2 || c.Hosts()[1] != h || h.Active() != 1 {
		t.Error("the host's state was lost")
	}
	empty := &program.Program{Clusters: map[string]*program.Cluster{}}
	m.Update(empty)
	if m.Get("c") == nil {
		t.Error("gone before it was pruned")
	}
	m.Prune(empty)
	if m.Get("c") != nil {
		t.Error("still there after it was pruned")
	}
}

func TestOriginalDestination(t *testing.T) {
	_, c := single(t, &program.Cluster{OriginalDst: &program.OriginalDst{Hops: func(d netip.AddrPort) []program.Hop {
		return []program.Hop{{Dial: netip.AddrPortFrom(d.Addr(), 15008).String()}}
	}}})
	dst := netip.MustParseAddrPort("10.244.0.7:8080")
	h1, err := c.Pick(&PickContext{OriginalDst: dst})
	if err != nil {
		t.Fatal(err)
	}
	h2, _ := c.Pick(&PickContext{OriginalDst: dst})
	if h1 != h2 || h1.Endpoint().Hops[0].Dial != "10.244.0.7:15008" {
		t.Errorf("%v %v", h1.Endpoint(), h2.Endpoint())
	}
	if _, err := c.Pick(&PickContext{}); err == nil {
		t.Error("no destination, and yet a host")
	}
}

// backend2 is an HTTP/2 server that counts its connections and holds its streams until release is closed.
func backend2(t *testing.T, release chan struct{}) (addr string, conns *int, mu *sync.Mutex) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	conns, mu = new(int), &sync.Mutex{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			*conns++
			mu.Unlock()
			go func() {
				_ = h2.NewServer(c, h2.Options{}, func(s *h2.Stream) {
					var h message.Head
					if _, err := s.ReadHead(&h); err != nil {
						return
					}
					<-release
					h.Reset()
					h.Status = 200
					_ = s.WriteHead(&h, true)
				}).Serve()
			}()
		}
	}()
	return l.Addr().String(), conns, mu
}

// 250 requests at once need three connections of 100 streams, made once each and not one per request.
func TestHTTP2PoolSharesConnections(t *testing.T) {
	if n := connectionsFor250(t, unlimited); n < 3 || n > 5 {
		t.Errorf("%d connections for 250 streams", n)
	}
}

// With max_connections they wait for room on the one that there is.
func TestHTTP2MaxConnections(t *testing.T) {
	if n := connectionsFor250(t, 1); n != 1 {
		t.Errorf("%d connections, want max_connections 1", n)
	}
}

func connectionsFor250(t *testing.T, limit uint32) int {
	t.Helper()
	release := make(chan struct{})
	addr, conns, mu := backend2(t, release)
	_, c := single(t, &program.Cluster{Protocol: program.UpstreamHTTP2, Endpoints: []*program.Endpoint{endpoint(addr, 1, 0, 0)},
		Limits: program.CircuitBreakers{MaxConnections: limit, MaxPending: unlimited, MaxRequests: unlimited}})
	h := c.Hosts()[0]
	var wg sync.WaitGroup
	failed := make(chan error, 250)
	for range 250 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			failed <- func() error {
				l, ok := h.TryAcquire(message.HTTP11)
				if !ok {
					var err error
					if l, err = h.Acquire(context.Background(), message.HTTP11); err != nil {
						return err
					}
				}
				defer l.Release()
				if err := l.Stream.WriteHead(&message.Head{Method: "GET", Scheme: "http", Authority: "a", Path: "/"}, true); err != nil {
					return err
				}
				if err := l.Stream.Flush(); err != nil {
					return err
				}
				var resp message.Head
				if _, err := l.Stream.ReadHead(&resp); err != nil {
					return err
				}
				if resp.Status != 200 {
					return fmt.Errorf("status %d", resp.Status)
				}
				return nil
			}()
		}()
	}
	time.Sleep(300 * time.Millisecond) // all of them are waiting for their answer
	close(release)
	wg.Wait()
	for range 250 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return *conns
}

func TestConnectFailureSaysWhichHop(t *testing.T) {
	_, c := single(t, &program.Cluster{Endpoints: []*program.Endpoint{endpoint("127.0.0.1:1", 1, 0, 0)}})
	_, err := c.Hosts()[0].Acquire(context.Background(), message.HTTP11)
	var ce *ConnectError
	if !errors.As(err, &ce) || ce.Hop != "dial 127.0.0.1:1" {
		t.Errorf("%v", err)
	}
}
