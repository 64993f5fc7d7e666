package cluster

import (
	"math"
	"math/big"
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// table maps a request's hash to a host. attempt is 0, and more when earlier answers were not wanted.
type table interface {
	at(hash uint64, attempt int) *Host
}

// part is a host's part of the table; the parts of all hosts are 1 together.
type part struct {
	host *Host
	size float64
}

// newTable builds the table of a policy, in Envoy's way down to the hashes, so that both send a request to the same endpoint.
func newTable(lb *program.LB, shares []part) table {
	if lb.Policy == program.Maglev {
		return newMaglev(shares, lb.MaglevTable)
	}
	return newRing(shares, lb.MinRingSize)
}

// hashKey is what stands for a host: its address as Envoy prints it.
func (h *Host) hashKey() string { return h.Endpoint().Display }

// maxRing is RingHashLbConfig.maximum_ring_size, Envoy's default and the most that it takes.
const maxRing = 8 << 20

// ring is RING_HASH (ketama): each host stands at several points of a circle, and a hash goes to the next point.
type ring []point

type point struct {
	hash uint64
	host *Host
}

// newRing gives each host points by its part. The ring is as large as it takes to give the smallest part whole points.
func newRing(shares []part, size uint64) ring {
	least := 1.0
	for _, s := range shares {
		least = min(least, s.size)
	}
	size = min(max(size, 1), maxRing)
	scale := min(math.Ceil(least*float64(size))/least, maxRing)
	r := make(ring, 0, int(math.Ceil(scale)))
	var key []byte
	target := 0.0
	for _, s := range shares {
		target += scale * s.size
		for i := 0; float64(len(r)) < target && len(r) < maxRing; i++ {
			key = append(append(key[:0], s.host.hashKey()...), '_')
			r = append(r, point{xxhash.Sum64(strconv.AppendInt(key, int64(i), 10)), s.host})
		}
	}
	slices.SortStableFunc(r, func(a, b point) int {
		switch {
		case a.hash < b.hash:
			return -1
		case a.hash > b.hash:
			return 1
		}
		return 0
	})
	return r
}

func (r ring) at(hash uint64, attempt int) *Host {
	if len(r) == 0 {
		return nil
	}
	i, _ := slices.BinarySearchFunc(r, hash, func(p point, hash uint64) int {
		if p.hash < hash {
			return -1
		}
		return 1 // the first of equal ones is looked for
	})
	return r[(i+attempt)%len(r)].host
}

// maglev is MAGLEV (Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer", 3.4): hosts take turns to
// fill a table, each in an order of its own.
type maglev []*Host

// The bounds of MaglevLbConfig.table_size, and what Envoy takes without one.
const (
	defaultMaglev = 65537
	maxMaglev     = 5000011
)

func newMaglev(shares []part, size uint64) maglev {
	if len(shares) == 0 {
		return nil
	}
	n := prime(size)
	type order struct {
		offset, skip, next uint64
		target             float64
	}
	most := 0.0
	orders := make([]order, len(shares))
	for i, s := range shares {
		key := s.host.hashKey()
		seeded := xxhash.NewWithSeed(1)
		_, _ = seeded.WriteString(key) // a hash takes everything
		orders[i] = order{offset: xxhash.Sum64String(key) % n, skip: seeded.Sum64()%(n-1) + 1}
		most = max(most, s.size)
	}
	m := make(maglev, n)
	filled := uint64(0)
	for turn := 1; ; turn++ {
		for i, s := range shares {
			o := &orders[i]
			// The host with the largest part takes a place each turn, the others as often as their part is of that.
			if float64(turn)*s.size < o.target {
				continue
			}
			o.target += most
			at := (o.offset + o.skip*o.next) % n
			for m[at] != nil {
				o.next++
				at = (o.offset + o.skip*o.next) % n
			}
			m[at] = s.host
			o.next++
			if filled++; filled == n {
				return m
			}
		}
	}
}

func (m maglev) at(hash uint64, attempt int) *Host {
	if len(m) == 0 {
		return nil
	}
	if attempt > 0 {
		hash ^= ^uint64(0) - uint64(attempt) + 1
	}
	return m[hash%uint64(len(m))]
}

// prime is the table's size: Envoy refuses one that is not prime; a size that is not would leave places that no host can reach.
func prime(n uint64) uint64 {
	if n < 2 {
		n = defaultMaglev
	}
	for n = min(n, maxMaglev); n < maxMaglev && !new(big.Int).SetUint64(n).ProbablyPrime(0); { // exact below 2^64
		n++
	}
	return n
}
