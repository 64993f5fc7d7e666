package cluster

import (
	"math/rand/v2"
	"sync"

	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// level is one priority.
type level struct {
	hostSet      // usable hosts, or all of them when the level panics
	healthy  int // of total
	total    int
	panicked bool
	// localities is set when a locality is picked first (LB.LocalityWeighted); sum is that of their weights.
	localities []locality
	sum        float64
	// table is set for policies that hash. It is built when it is first asked for.
	table func() table
}

// hostSet is hosts to pick from.
type hostSet struct {
	hosts []*Host
	// uniform: all weights are equal, so weights need not be looked at.
	uniform bool
	weight  uint64 // sum of weights
}

// locality is a part of a level. Its weight is LocalityWeight, less when many of its hosts are down.
type locality struct {
	hostSet
	total  int
	config uint32
	weight float64
}

// overprovisioning is Envoy's default factor: a priority, or a locality, keeps all of its load until fewer than 1/1.4 of it is
// healthy.
const overprovisioning = 1.4

// levels sorts hosts by priority and leaves out those that must not be picked.
func levels(hosts []*Host, lb *program.LB) []level {
	var ls []level
	for _, h := range hosts {
		p := int(h.Endpoint().Priority)
		for len(ls) <= p {
			ls = append(ls, level{hostSet: hostSet{uniform: true}})
		}
		ls[p].total++
		if h.usable() {
			ls[p].healthy++
			ls[p].add(h)
		}
	}
	for i := range ls {
		l := &ls[i]
		// Envoy: strictly fewer healthy than the threshold; istiod sends 0, and then nothing panics.
		if l.total > 0 && float64(l.healthy)*100/float64(l.total) < lb.PanicThreshold {
			l.hostSet, l.panicked = hostSet{uniform: true}, true
			for _, h := range hosts {
				if int(h.Endpoint().Priority) == i {
					l.add(h)
				}
			}
		}
		if lb.LocalityWeighted && !l.panicked {
			l.byLocality(hosts, uint32(i))
		}
		if lb.Policy == program.RingHash || lb.Policy == program.Maglev {
			policy, shares := *lb, l.shares()
			l.table = sync.OnceValue(func() table { return newTable(&policy, shares) })
		}
	}
	return ls
}

func (g *hostSet) add(h *Host) {
	w := h.Endpoint().Weight
	if len(g.hosts) > 0 && g.hosts[0].Endpoint().Weight != w {
		g.uniform = false
	}
	g.hosts = append(g.hosts, h)
	g.weight += uint64(max(w, 1))
}

// byLocality divides the level. Localities without weight or without a usable host get nothing; if none is left, as when no
// locality has a weight, the level is not divided.
func (l *level) byLocality(hosts []*Host, priority uint32) {
	index := map[program.Locality]int{}
	var all []locality
	for _, h := range hosts {
		ep := h.Endpoint()
		if ep.Priority != priority {
			continue
		}
		i, ok := index[ep.Locality]
		if !ok {
			i = len(all)
			index[ep.Locality] = i
			all = append(all, locality{hostSet: hostSet{uniform: true}, config: ep.LocalityWeight})
		}
		all[i].total++
		if h.usable() {
			all[i].add(h)
		}
	}
	for _, loc := range all {
		if loc.config == 0 || len(loc.hosts) == 0 {
			continue
		}
		loc.weight = float64(loc.config) * min(1, overprovisioning*float64(len(loc.hosts))/float64(loc.total))
		l.localities = append(l.localities, loc)
		l.sum += loc.weight
	}
}

// shares is the part of each host in a table. With localities it is the host's part of its locality's, and a locality's part does
// not shrink with its health: its hosts take over from each other, as in Envoy.
func (l *level) shares() []part {
	var out []part
	if len(l.localities) == 0 {
		for _, h := range l.hosts {
			out = append(out, part{h, float64(max(h.Endpoint().Weight, 1)) / float64(l.weight)})
		}
		return out
	}
	var sum float64
	for i := range l.localities {
		sum += float64(l.localities[i].config)
	}
	for i := range l.localities {
		loc := &l.localities[i]
		for _, h := range loc.hosts {
			out = append(out, part{h, float64(loc.config) / sum * float64(max(h.Endpoint().Weight, 1)) / float64(loc.hostSet.weight)})
		}
	}
	return out
}

// within picks the locality.
func (l *level) within() *hostSet {
	if len(l.localities) == 0 {
		return &l.hostSet
	}
	x := rand.Float64() * l.sum
	for i := range l.localities {
		if x < l.localities[i].weight {
			return &l.localities[i].hostSet
		}
		x -= l.localities[i].weight
	}
	return &l.localities[len(l.localities)-1].hostSet // rounding
}
