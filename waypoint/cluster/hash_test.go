package cluster

import (
	"fmt"
	"maps"
	"testing"

	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

func many(n int) []*program.Endpoint {
	var out []*program.Endpoint
	for i := range n {
		out = append(out, endpoint(fmt.Sprintf("10.0.0.%d:80", i+1), 1, 0, 0))
	}
	return out
}

// hashed picks for n hashes and returns where each went.
func hashed(t *testing.T, c *Cluster, n int) map[uint64]string {
	t.Helper()
	out := map[uint64]string{}
	for i := range n {
		hash := uint64(i) * 0x9e3779b97f4a7c15 // spread over all of 64 bits
		h, err := c.Pick(&PickContext{Hash: hash, HasHash: true})
		if err != nil {
			t.Fatal(err)
		}
		out[hash] = h.Key
	}
	return out
}

var hashPolicies = map[string]program.LB{
	"ring":   {Policy: program.RingHash, MinRingSize: 1024},
	"maglev": {Policy: program.Maglev, MaglevTable: 65537},
}

// Equal hashes go to the same host, hosts get their share, and a host that comes takes from the others and moves nothing between
// them.
func TestConsistentHashing(t *testing.T) {
	for name, lb := range hashPolicies {
		t.Run(name, func(t *testing.T) {
			m, c := single(t, &program.Cluster{Endpoints: many(5), LB: lb})
			before := hashed(t, c, 5000)
			if !maps.Equal(before, hashed(t, c, 5000)) {
				t.Error("the same hashes went elsewhere")
			}
			shares := map[string]float64{}
			for _, k := range before {
				shares[k] += 1.0 / 5000
			}
			for _, h := range c.Hosts() {
				if s := shares[h.Key]; s < 0.1 || s > 0.3 {
					t.Errorf("%s gets %.2f of the hashes", h.Key, s)
				}
			}
			m.Update(&program.Program{Clusters: map[string]*program.Cluster{"c": {Name: "c", Endpoints: many(6), LB: lb}}})
			moved, strayed := 0, 0
			for hash, k := range hashed(t, c, 5000) {
				if k != before[hash] {
					moved++
					if k != "10.0.0.6:80" {
						strayed++
					}
				}
			}
			if moved < 400 || moved > 1500 || strayed > 500 { // the others give up points of the ring, or places in the table, for it
				t.Errorf("a sixth host: %d of 5000 moved, %d of them not to it", moved, strayed)
			}
		})
	}
}

func TestHashingFollowsWeightAndHealth(t *testing.T) {
	for name, lb := range hashPolicies {
		eps := []*program.Endpoint{endpoint("10.0.0.1:80", 1, 0, 0), endpoint("10.0.0.2:80", 3, 0, 0), endpoint("10.0.0.3:80", 4, 0, program.Unhealthy)}
		_, c := single(t, &program.Cluster{Endpoints: eps, LB: lb})
		shares := map[string]float64{}
		for _, k := range hashed(t, c, 20000) {
			shares[k] += 1.0 / 20000
		}
		if shares["10.0.0.3:80"] != 0 || !near(shares["10.0.0.2:80"], 0.75) {
			t.Errorf("%s: weights 1 and 3: %v", name, shares)
		}
	}
}

// Another attempt goes to another host; a request without a hash to any.
func TestHashingRetriesAndWithoutHash(t *testing.T) {
	for name, lb := range hashPolicies {
		_, c := single(t, &program.Cluster{Endpoints: many(4), LB: lb})
		stuck := 0
		for i := range 200 {
			p := PickContext{Hash: uint64(i) * 0x9e3779b97f4a7c15, HasHash: true}
			first, err := c.Pick(&p)
			if err != nil {
				t.Fatal(err)
			}
			p.Skip, p.SkipAttempts = []*Host{first}, 5
			if second, _ := c.Pick(&p); second == first {
				stuck++
			}
		}
		if stuck > 4 { // six points of a ring in a row may belong to one of four hosts
			t.Errorf("%s: %d of 200 second attempts went to the same host", name, stuck)
		}
		if s := share(t, c, 400); len(s) != 4 {
			t.Errorf("%s: without a hash only %v", name, s)
		}
	}
}

// The places that Envoy gives hosts: xxHash64 of "address_index" on the ring, hash modulo size in the table.
func TestRingPlaces(t *testing.T) {
	_, c := single(t, &program.Cluster{Endpoints: many(2), LB: program.LB{Policy: program.RingHash, MinRingSize: 4}})
	r, ok := c.view.Load().levels[0].table().(ring)
	if !ok || len(r) != 4 {
		t.Fatalf("a ring of %d points, want 4", len(r))
	}
	for i := 1; i < len(r); i++ {
		if r[i-1].hash > r[i].hash {
			t.Error("the ring is not in order")
		}
	}
	for i, p := range r {
		if got := r.at(p.hash, 0); got != p.host {
			t.Errorf("point %d itself leads to %s", i, got.Key)
		}
		if got := r.at(p.hash+1, 0); got != r[(i+1)%4].host {
			t.Errorf("behind point %d comes %s", i, got.Key)
		}
	}
	if got := prime(10); got != 11 {
		t.Errorf("a table of %d places", got)
	}
}

func TestLocalityWeights(t *testing.T) {
	in := func(addr, zone string, weight uint32, health program.Health) *program.Endpoint {
		e := endpoint(addr, 1, 0, health)
		e.Locality, e.LocalityWeight = program.Locality{Zone: zone}, weight
		return e
	}
	up, down := program.Healthy, program.Unhealthy
	for _, policy := range []program.LBPolicy{program.Random, program.LeastRequest, program.RoundRobin, program.RingHash, program.Maglev} {
		lb := program.LB{Policy: policy, LocalityWeighted: true, MinRingSize: 1024, MaglevTable: 65537}
		// Three hosts to one, and yet each locality gets its weight.
		_, c := single(t, &program.Cluster{LB: lb, Endpoints: []*program.Endpoint{
			in("10.0.0.1:80", "a", 25, up), in("10.0.0.2:80", "a", 25, up), in("10.0.0.3:80", "a", 25, up), in("10.0.1.1:80", "b", 75, up), in("10.0.2.1:80", "c", 0, up)}})
		s := share(t, c, 12000)
		if !near(s["10.0.1.1:80"], 0.75) || s["10.0.2.1:80"] != 0 {
			t.Errorf("policy %d: weights 25 and 75: %v", policy, s)
		}
	}
	// Half of b is down: it keeps 1.4 × 0.5 of its weight.
	lb := program.LB{Policy: program.Random, LocalityWeighted: true}
	_, c := single(t, &program.Cluster{LB: lb, Endpoints: []*program.Endpoint{
		in("10.0.0.1:80", "a", 50, up), in("10.0.1.1:80", "b", 50, up), in("10.0.1.2:80", "b", 50, down)}})
	if s := share(t, c, 12000); !near(s["10.0.1.1:80"], 0.7/1.7) {
		t.Errorf("half of b is down: %v", s)
	}
	// No locality has a weight: as if there were none.
	_, c = single(t, &program.Cluster{LB: lb, Endpoints: []*program.Endpoint{in("10.0.0.1:80", "a", 0, up), in("10.0.1.1:80", "b", 0, up)}})
	if s := share(t, c, 12000); !near(s["10.0.0.1:80"], 0.5) {
		t.Errorf("no weights: %v", s)
	}
}
