package wds

import (
	"hash/maphash"
	"maps"
	"sync/atomic"
)

// shardCount keeps a change cheap: with 100,000 workloads, one that changes copies a map of 400, not of 100,000.
const shardCount = 256

// shards is a map for many readers and one writer. It is split by hash into small maps that are never modified: a writer copies the
// ones that it changes and swaps them. (sync.Map would allocate to box the key of each look-up.)
type shards[K comparable, V any] struct {
	seed maphash.Seed
	maps [shardCount]atomic.Pointer[map[K]V]
}

func (s *shards[K, V]) init() { s.seed = maphash.MakeSeed() }

func (s *shards[K, V]) index(k K) int {
	return int(maphash.Comparable(s.seed, k) % shardCount)
}

func (s *shards[K, V]) get(k K) (V, bool) {
	if m := s.maps[s.index(k)].Load(); m != nil {
		v, ok := (*m)[k]
		return v, ok
	}
	var none V
	return none, false
}

func (s *shards[K, V]) len() int {
	n := 0
	for i := range s.maps {
		if m := s.maps[i].Load(); m != nil {
			n += len(*m)
		}
	}
	return n
}

// edit begins a change. There must be only one at a time.
func (s *shards[K, V]) edit() *edit[K, V] {
	return &edit[K, V]{shards: s, changed: make(map[int]map[K]V)}
}

// edit is a change that readers do not see yet.
type edit[K comparable, V any] struct {
	shards  *shards[K, V]
	changed map[int]map[K]V
}

func (e *edit[K, V]) get(k K) (V, bool) {
	if m, ok := e.changed[e.shards.index(k)]; ok {
		v, ok := m[k]
		return v, ok
	}
	return e.shards.get(k)
}

// shard returns the copy that k belongs to.
func (e *edit[K, V]) shard(k K) map[K]V {
	i := e.shards.index(k)
	m, ok := e.changed[i]
	if !ok {
		if old := e.shards.maps[i].Load(); old != nil {
			m = maps.Clone(*old)
		} else {
			m = make(map[K]V)
		}
		e.changed[i] = m
	}
	return m
}

func (e *edit[K, V]) set(k K, v V) { e.shard(k)[k] = v }
func (e *edit[K, V]) remove(k K)   { delete(e.shard(k), k) }

// commit shows the change to readers.
func (e *edit[K, V]) commit() {
	for i, m := range e.changed {
		if len(m) == 0 {
			e.shards.maps[i].Store(nil)
		} else {
			e.shards.maps[i].Store(&m)
		}
	}
}
