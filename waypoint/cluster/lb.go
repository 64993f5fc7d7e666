package cluster

import (
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// PickContext is what load balancing knows of a request or connection.
type PickContext struct {
	// OriginalDst is the tunnel's destination, for clusters that go there.
	OriginalDst netip.AddrPort
	// Skip are hosts that earlier attempts of the same request went to (retry predicate previous_hosts); a pick avoids them
	// for SkipAttempts tries and then takes what comes.
	Skip         []*Host
	SkipAttempts int
	// Hash is the request's (route.Forward.Hash), for RING_HASH and MAGLEV; without HasHash these pick at random.
	Hash    uint64
	HasHash bool
}

// ErrNoHealthyHost means that there is nobody to send to: 503, flag UH.
var ErrNoHealthyHost = errors.New("no healthy upstream")

// Pick chooses a host.
//
// Policies: LEAST_REQUEST takes the better of ChoiceCount random hosts by requests in flight per weight; ROUND_ROBIN goes round,
// by weight when weights differ; RANDOM. Envoy's LEAST_REQUEST with differing weights is a weighted round robin whose weights
// fall with the load; ours draws by weight and compares by load, which gives the same shares without a queue to keep.
// RING_HASH and MAGLEV look the request's hash up in a table of the hosts. With LB.LocalityWeighted a locality is drawn first, by
// weight. Hosts that outlier detection has ejected count as unhealthy, and new ones get less while slow start lasts.
func (c *Cluster) Pick(p *PickContext) (*Host, error) {
	v := c.view.Load()
	if v.original != nil {
		return c.pickOriginal(v, p)
	}
	for attempt := 0; ; attempt++ {
		h := c.pickOnce(v, p, attempt)
		if h == nil {
			c.Stats.NoneHealthy.Add(1)
			return nil, ErrNoHealthyHost
		}
		if attempt >= p.SkipAttempts || !contains(p.Skip, h) {
			return h, nil
		}
	}
}

func contains(list []*Host, h *Host) bool {
	for _, e := range list {
		if e == h {
			return true
		}
	}
	return false
}

func (c *Cluster) pickOriginal(v *view, p *PickContext) (*Host, error) {
	dst := p.OriginalDst
	if !dst.IsValid() {
		c.Stats.NoneHealthy.Add(1)
		return nil, ErrNoHealthyHost
	}
	if h, ok := v.original.Load(dst); ok {
		return h.(*Host), nil
	}
	o := v.cfg.OriginalDst
	display := dst.String()
	if o.Display != nil {
		display = o.Display(dst)
	}
	h := &Host{cluster: c, Key: dst.String()}
	h.setEndpoint(&program.Endpoint{Key: h.Key, Display: display, Address: dst, Weight: 1, Hops: o.Hops(dst)})
	got, _ := v.original.LoadOrStore(dst, h)
	return got.(*Host), nil
}

// choose picks the priority: each takes what its health allows of what the ones before it left. draw is from [0, 1).
func (v *view) choose(draw float64) *level {
	if len(v.levels) == 1 {
		return &v.levels[0]
	}
	var health [16]float64
	total := 0.0
	n := min(len(v.levels), len(health))
	for i := range n {
		if l := &v.levels[i]; l.total > 0 {
			health[i] = min(1, overprovisioning*float64(l.healthy)/float64(l.total))
			total += health[i]
		}
	}
	if total == 0 {
		for i := range n { // all are down: whoever panics
			if len(v.levels[i].hosts) > 0 {
				return &v.levels[i]
			}
		}
		return nil
	}
	// With less than 1 in total the shares are scaled up, so that no request goes nowhere.
	x := draw * min(1, total)
	for i := range n {
		if x < health[i] {
			return &v.levels[i]
		}
		x -= health[i]
	}
	for i := n - 1; i >= 0; i-- { // rounding
		if health[i] > 0 {
			return &v.levels[i]
		}
	}
	return nil
}

func (c *Cluster) pickOnce(v *view, p *PickContext, attempt int) *Host {
	switch v.cfg.LB.Policy {
	case program.RingHash, program.Maglev:
		return v.pickHashed(p, attempt)
	}
	chosen := v.choose(rand.Float64())
	if chosen == nil || len(chosen.hosts) == 0 {
		return nil
	}
	l := chosen.within()
	if len(l.hosts) == 1 {
		return l.hosts[0]
	}
	h := c.pickFrom(v, l)
	if s := v.cfg.LB.SlowStart; s != nil {
		for range slowStartDraws {
			if rand.Float64() < h.warmth(s) {
				break
			}
			h = c.pickFrom(v, l)
		}
	}
	return h
}

// slowStartDraws bounds how often a new host is passed over for another draw: where all hosts are new, four of five picks end before
// the bound, and the fifth takes what it drew last.
const slowStartDraws = 16

// warmth is the part of its share that a host gets as yet: drawing again with the rest gives each host weight × warmth.
func (h *Host) warmth(s *program.SlowStart) float64 {
	age := time.Since(h.born)
	if age >= s.Window {
		return 1
	}
	return max(s.MinWeight, math.Pow(float64(max(age, 0))/float64(s.Window), 1/s.Aggression))
}

// pickFrom picks by the policy alone.
func (c *Cluster) pickFrom(v *view, l *hostSet) *Host {
	switch v.cfg.LB.Policy {
	case program.RoundRobin:
		if l.uniform {
			return l.hosts[c.rr.Add(1)%uint64(len(l.hosts))]
		}
		return c.swrr.next(l)
	case program.Random:
		return l.random()
	default:
		best := l.random()
		choices := max(v.cfg.LB.ChoiceCount, 2)
		for range choices - 1 {
			if h := l.random(); h.load() < best.load() {
				best = h
			}
		}
		return best
	}
}

// pickHashed sends equal hashes to the same priority, too, as in Envoy.
func (v *view) pickHashed(p *PickContext, attempt int) *Host {
	hash := p.Hash
	if !p.HasHash {
		hash = rand.Uint64()
	}
	l := v.choose(float64(hash%100) / 100)
	if l == nil || len(l.hosts) == 0 {
		return nil
	}
	return l.table().at(hash, attempt)
}

func (l *hostSet) random() *Host {
	if l.uniform {
		return l.hosts[rand.IntN(len(l.hosts))]
	}
	x := rand.Uint64N(l.weight)
	for _, h := range l.hosts {
		w := uint64(max(h.Endpoint().Weight, 1))
		if x < w {
			return h
		}
		x -= w
	}
	return l.hosts[len(l.hosts)-1]
}

// smooth is smooth weighted round robin: each turn every host gains its weight, the richest is taken and pays the sum.
type smooth struct {
	mu     sync.Mutex
	credit map[*Host]int64
}

func (s *smooth) next(l *hostSet) *Host {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.credit == nil || len(s.credit) > 2*len(l.hosts)+16 { // forget hosts that are gone
		s.credit = make(map[*Host]int64, len(l.hosts))
	}
	var best *Host
	for _, h := range l.hosts {
		s.credit[h] += int64(max(h.Endpoint().Weight, 1))
		if best == nil || s.credit[h] > s.credit[best] {
			best = h
		}
	}
	s.credit[best] -= int64(l.weight)
	return best
}
