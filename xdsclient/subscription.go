package xdsclient

import (
	"maps"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// subscription is all that is known of one type: what is wanted, what the server has been told, what it sent.
//
// A wanted name is in told (the server knows) or in ask (it has to be told), or in both: it was dropped and wanted again before
// the server heard of it. drop holds the names that the server has yet to be told are no longer wanted; drop is a subset of told.
type subscription struct {
	typeURL    string
	wildcard   bool
	digestOnly bool

	want map[string]bool

	// The following are of the present stream.
	requested bool // the type was asked for
	answered  bool // and a response came
	unsaid    bool // what we hold was too much to tell, see maxHolding
	told      map[string]bool
	ask, drop map[string]bool

	entries map[string]*entry
	stats   TypeStats
}

// entry is one resource: the version in force, or the last rejected one, or both.
type entry struct {
	accepted    *Resource // for digestOnly types its Value is the SHA-256
	lastUpdated time.Time
	failure     *Failure
}

func newSubscription(typeURL string) *subscription {
	return &subscription{
		typeURL: typeURL,
		want:    make(map[string]bool),
		told:    make(map[string]bool),
		ask:     make(map[string]bool),
		drop:    make(map[string]bool),
		entries: make(map[string]*entry),
	}
}

// wants tells whether a resource of this name is subscribed.
func (s *subscription) wants(name string) bool { return s.wildcard || s.want[name] }

func (s *subscription) add(name string) {
	if s.want[name] {
		return
	}
	s.want[name] = true
	s.ask[name] = true
}

// remove forgets a name and what is held of it. If it is added again before the server was told, it stays in drop as well as in
// ask: the server must see both, or it would have no reason to send the resource again.
func (s *subscription) remove(name string) {
	if !s.want[name] {
		return
	}
	delete(s.want, name)
	delete(s.ask, name)
	delete(s.entries, name)
	if s.told[name] {
		s.drop[name] = true
	}
}

func (s *subscription) beginStream() {
	s.requested, s.answered, s.unsaid = false, false, false
	clear(s.told)
	clear(s.ask)
	clear(s.drop)
}

// requests takes what the server has to be told.
func (s *subscription) requests() []*discoveryv3.DeltaDiscoveryRequest {
	if !s.requested {
		if !s.wildcard && len(s.want) == 0 {
			return nil // a first request without names would subscribe to everything
		}
		return []*discoveryv3.DeltaDiscoveryRequest{s.initialRequest()}
	}
	if len(s.ask) == 0 && len(s.drop) == 0 {
		return nil
	}
	req := &discoveryv3.DeltaDiscoveryRequest{
		TypeUrl:                  s.typeURL,
		ResourceNamesSubscribe:   sortedNames(s.ask),
		ResourceNamesUnsubscribe: sortedNames(s.drop),
	}
	out := []*discoveryv3.DeltaDiscoveryRequest{req}
	for name := range s.ask {
		if s.drop[name] {
			// Within one request the two would cancel out. Dropping first, in a request of its own, makes the second one a change.
			first := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: s.typeURL, ResourceNamesUnsubscribe: req.ResourceNamesUnsubscribe}
			req.ResourceNamesUnsubscribe = nil
			out = []*discoveryv3.DeltaDiscoveryRequest{first, req}
			break
		}
	}
	for name := range s.drop {
		delete(s.told, name)
	}
	maps.Copy(s.told, s.ask)
	clear(s.ask)
	clear(s.drop)
	return out
}

// maxHolding bounds the names and versions in a first request. istiod reads requests of up to 4 MiB and would end the stream of a
// larger one for ever; 100,000 workloads are more than that. Beyond the bound nothing is said to be held, the server sends
// everything, and what of a wildcard type is not in its first response has vanished.
const maxHolding = 2 << 20

// initialRequest is the type's first request on a stream. It says what is held, so that the server can tell what vanished
// in the meantime, and may leave out what is unchanged. What was rejected and never accepted is not held.
func (s *subscription) initialRequest() *discoveryv3.DeltaDiscoveryRequest {
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: s.typeURL, ResourceNamesSubscribe: sortedNames(s.want)}
	holding := make(map[string]string, len(s.entries))
	size := 0
	for name, e := range s.entries {
		if e.accepted != nil {
			holding[name] = e.accepted.Version
			size += len(name) + len(e.accepted.Version) + 8 // and the encoding
		}
	}
	s.unsaid = size > maxHolding
	if !s.unsaid {
		req.InitialResourceVersions = holding
	}
	s.requested = true
	maps.Copy(s.told, s.want)
	clear(s.ask)
	clear(s.drop)
	s.stats.Attempts++
	return req
}

// sortedNames makes requests reproducible; map order would not be.
func sortedNames[V any](set map[string]V) []string {
	return slices.Sorted(maps.Keys(set))
}
