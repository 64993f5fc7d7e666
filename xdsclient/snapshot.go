package xdsclient

import (
	"maps"
	"slices"
	"time"
)

// TypeStats counts what happened to one type. The Envoy statistic of the same meaning is in brackets.
type TypeStats struct {
	Received  bool   // a response of the type came, at least once, good or bad
	Attempts  uint64 // first requests and responses [update_attempt]
	Accepted  uint64 // responses without a rejected resource, answered by an ACK [update_success]
	Rejected  uint64 // responses answered by a NACK [update_rejected]
	Unchanged uint64 // resources that came again with the bytes in force
	Bytes     uint64 // of resources received, serialised

	SystemVersion string    // system_version_info of the last response that was accepted as a whole [version_text]
	Nonce         string    // of the last response
	LastUpdate    time.Time // when the last response was finished [update_time]; zero: never
	LastError     string    // error_detail of the last response; empty if it was accepted
	LastErrorTime time.Time // when a response was last rejected; zero: never
}

// A Failure is a rejected version of a resource; error_state in a config dump.
type Failure struct {
	Resource *Resource // what was rejected
	Time     time.Time
	Details  string // field and reason, several joined by "; "
}

// An Entry is a resource in the cache.
type Entry struct {
	Name     string
	Accepted *Resource // in force; nil if no version was ever good
	// LastUpdated is when Accepted came into force. Receiving the same bytes again does not change it.
	LastUpdated time.Time
	Failure     *Failure // the newest version, if it was rejected; else nil
}

// A TypeSnapshot is the state of one type at one moment. It shares the (immutable) resources with the cache.
type TypeSnapshot struct {
	TypeURL  string
	Wildcard bool
	Names    []string // the names subscribed, sorted; empty for a wildcard
	Entries  []Entry  // sorted by name
	TypeStats
}

// typeSnapshot copies a type's state; the empty snapshot if the type was never subscribed.
func (m *machine) typeSnapshot(typeURL string) TypeSnapshot {
	s := m.types[typeURL]
	if s == nil {
		return TypeSnapshot{TypeURL: typeURL}
	}
	out := TypeSnapshot{
		TypeURL: typeURL, Wildcard: s.wildcard, Names: sortedNames(s.want), TypeStats: s.stats,
		Entries: make([]Entry, 0, len(s.entries)),
	}
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		e := s.entries[name]
		out.Entries = append(out.Entries, Entry{Name: name, Accepted: s.shown(e.accepted), LastUpdated: e.lastUpdated, Failure: e.failure})
	}
	return out
}

// get returns the resource in force.
func (m *machine) get(typeURL, name string) (*Resource, bool) {
	s := m.types[typeURL]
	if s == nil || s.entries[name] == nil || s.entries[name].accepted == nil {
		return nil, false
	}
	return s.shown(s.entries[name].accepted), true
}

// shown is what others see of a resource that is kept: not the digest.
func (s *subscription) shown(r *Resource) *Resource {
	if r == nil || !s.digestOnly {
		return r
	}
	return &Resource{TypeURL: r.TypeURL, Name: r.Name, Version: r.Version}
}
