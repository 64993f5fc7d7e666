package xdsclient

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// inflight is a response between receive and finish.
type inflight struct {
	subscription *subscription
	response     *discoveryv3.DeltaDiscoveryResponse
	update       *Update
	// candidates are the resources that would enter the cache: those of the update, and the malformed ones, of which
	// rejected says why.
	candidates []*Resource
	rejected   []Rejection
}

// receive takes a response. It returns the update to apply, or nil if there is nothing to tell the consumer; either way finish has
// to follow. A response of a type that was not asked for on this stream is ignored, as Envoy does: an answer would be taken for
// a subscription.
func (m *machine) receive(resp *discoveryv3.DeltaDiscoveryResponse) *Update {
	s := m.types[resp.GetTypeUrl()]
	if s == nil || !s.requested {
		m.note("a response of type %q was ignored: that type is not subscribed", resp.GetTypeUrl())
		return nil
	}
	s.stats.Attempts++
	f := &inflight{subscription: s, response: resp, update: &Update{
		TypeURL:       s.typeURL,
		First:         !s.stats.Received,
		SystemVersion: resp.GetSystemVersionInfo(),
	}}
	m.busy = f

	ambiguous := ambiguousNames(resp)
	seen := make(map[string]bool, len(resp.GetResources()))
	for i, r := range resp.GetResources() {
		s.stats.Bytes += uint64(len(r.GetResource().GetValue()))
		name := r.GetName()
		if name != "" && !s.wants(name) {
			continue // unsubscribed while the response was under way
		}
		if name == "" {
			f.rejected = append(f.rejected, Rejection{Name: fmt.Sprintf("(resource %d)", i), Field: "name", Reason: "empty; every resource needs a name"})
			continue
		}
		if seen[name] {
			continue // an exact repetition, or already rejected as ambiguous
		}
		seen[name] = true
		f.resource(r, ambiguous[name])
	}
	removed := resp.GetRemovedResources()
	if s.wildcard && s.unsaid && !s.answered {
		removed = sortedNames(s.entries)
	}
	for _, name := range removed {
		if e := s.entries[name]; e != nil && e.accepted != nil && !seen[name] {
			seen[name] = true // once is enough
			f.update.Removed = append(f.update.Removed, name)
		}
	}
	for _, e := range resp.GetResourceErrors() {
		m.note("%s: the control plane reports an error for %q: %s", ShortType(s.typeURL), e.GetResourceName().GetName(), e.GetErrorDetail().GetMessage())
	}
	if n := len(resp.GetRemovedResourceNames()); n > 0 {
		m.note("%s: %d removals by removed_resource_names were ignored: dynamic parameters are not spoken", ShortType(s.typeURL), n)
	}
	if len(f.update.Changed) == 0 && len(f.update.Removed) == 0 && !f.update.First {
		return nil
	}
	return f.update
}

// resource sorts one resource of the response: unchanged, changed or malformed.
func (f *inflight) resource(r *discoveryv3.Resource, ambiguous string) {
	s := f.subscription
	e := s.entries[r.GetName()]
	held := e != nil && e.accepted != nil
	candidate := func() *Resource {
		res := &Resource{TypeURL: s.typeURL, Name: r.GetName(), Version: r.GetVersion(), Value: r.GetResource().GetValue()}
		f.candidates = append(f.candidates, res)
		return res
	}
	malformed := func(field, reason string) {
		f.rejected = append(f.rejected, candidate().Reject(field, reason))
	}
	switch got := r.GetResource(); {
	case ambiguous != "":
		malformed("name", ambiguous)
	case r.GetTtl() != nil:
		malformed("ttl", "resources that expire are not supported; send it without a ttl and remove it when its time is over")
	case r.GetResourceName() != nil:
		malformed("resource_name", "dynamic parameters are not supported; use name")
	case got == nil && held:
		// A heartbeat: the resource is as it was.
	case got == nil:
		malformed("resource", "missing")
	case got.GetTypeUrl() != s.typeURL:
		malformed("resource.type_url", fmt.Sprintf("%q differs from the response's type %q", got.GetTypeUrl(), s.typeURL))
	case held && s.sameBytes(e.accepted, got.GetValue()):
		s.stats.Unchanged++
		// Only the version may be new. A rejected version that was taken back leaves no trace.
		if e.accepted.Version != r.GetVersion() {
			next := *e.accepted // others may be reading the old one
			next.Version = r.GetVersion()
			e.accepted = &next
		}
		e.failure = nil
	default:
		f.update.Changed = append(f.update.Changed, candidate())
	}
}

// ambiguousNames returns the names that a response uses in two meanings, and in which. Envoy refuses such a response as a whole.
func ambiguousNames(resp *discoveryv3.DeltaDiscoveryResponse) map[string]string {
	out := make(map[string]string)
	first := make(map[string]*discoveryv3.Resource, len(resp.GetResources()))
	for _, r := range resp.GetResources() {
		other, twice := first[r.GetName()]
		if !twice {
			first[r.GetName()] = r
		} else if !bytes.Equal(other.GetResource().GetValue(), r.GetResource().GetValue()) {
			out[r.GetName()] = "the response has two different resources of this name"
		}
	}
	for _, name := range resp.GetRemovedResources() {
		if first[name] != nil {
			out[name] = "the response both sends and removes this name"
		}
	}
	return out
}

// finish ends what receive began: it takes over what was not rejected and prepares the answer. now is the time of the update.
func (m *machine) finish(rejected []Rejection, now time.Time) {
	f := m.busy
	if f == nil {
		return
	}
	m.busy = nil
	s := f.subscription
	rejected = append(f.rejected, rejected...)
	failures := make(map[string]*Failure)
	for _, r := range rejected {
		fail := failures[r.Name]
		if fail == nil {
			failures[r.Name] = &Failure{Time: now, Details: r.why()}
		} else {
			fail.Details += "; " + r.why()
		}
	}
	if !s.answered && s.wildcard {
		s.forgetFailures()
	}
	s.answered, s.stats.Received = true, true
	for _, r := range f.candidates {
		if !s.wants(r.Name) {
			continue // unsubscribed during Apply
		}
		e := s.entries[r.Name]
		if e == nil {
			e = &entry{}
			s.entries[r.Name] = e
		}
		if fail := failures[r.Name]; fail != nil {
			fail.Resource = r
			e.failure = fail
			continue
		}
		e.accepted, e.lastUpdated, e.failure = s.stored(r), now, nil
	}
	for _, name := range f.update.Removed {
		delete(s.entries, name)
	}
	for _, name := range f.response.GetRemovedResources() {
		if e := s.entries[name]; e != nil && e.accepted == nil && failures[name] == nil {
			delete(s.entries, name) // it never was in force: the consumer need not know, the error is over
		}
	}
	m.answer(f, rejected, now)
}

// answer queues the ACK, or the NACK if anything was rejected.
func (m *machine) answer(f *inflight, rejected []Rejection, now time.Time) {
	s, resp := f.subscription, f.response
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: s.typeURL, ResponseNonce: resp.GetNonce()}
	s.stats.Nonce = resp.GetNonce()
	s.stats.LastUpdate = now
	if len(rejected) == 0 {
		s.stats.Accepted++
		s.stats.SystemVersion = resp.GetSystemVersionInfo()
		s.stats.LastError = ""
	} else {
		req.ErrorDetail = errorDetail(s.typeURL, rejected)
		if why := req.ErrorDetail.GetMessage(); why != s.stats.LastError {
			m.note("%s: rejected: %s", ShortType(s.typeURL), why) // once, though istiod sends all listeners with each push
			s.stats.LastError = why
		}
		s.stats.Rejected++
		s.stats.LastErrorTime = now
	}
	if m.open {
		m.acks = append(m.acks, req)
	}
}

// forgetFailures drops the resources that were rejected and never accepted. The server does not know that we remember them, so it
// would not report their removal after a reconnect; if they still exist, the first response of the stream brings them again.
func (s *subscription) forgetFailures() {
	for name, e := range s.entries {
		if e.accepted == nil {
			delete(s.entries, name)
		}
	}
}

// stored returns what is kept of an accepted resource.
func (s *subscription) stored(r *Resource) *Resource {
	if !s.digestOnly {
		return r
	}
	sum := sha256.Sum256(r.Value)
	return &Resource{TypeURL: r.TypeURL, Name: r.Name, Version: r.Version, Value: sum[:]}
}

// sameBytes compares bytes with what is kept of the resource in force.
func (s *subscription) sameBytes(kept *Resource, value []byte) bool {
	if s.digestOnly {
		sum := sha256.Sum256(value)
		return bytes.Equal(kept.Value, sum[:])
	}
	return bytes.Equal(kept.Value, value)
}

func (m *machine) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}
