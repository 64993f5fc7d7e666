package xdsclient

import (
	"cmp"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// machine is the delta xDS client as a state machine: no I/O, no clock, no goroutine, no lock. Its inputs are method calls,
// its outputs are the requests that ready returns and the updates that receive returns.
//
//	            connect ──────────────┐
//	                                  ▼
//	names, unsubscribe ──────► [ subscriptions ] ── ready ──► requests to send, in order
//	                                  ▲
//	response ── receive ──► Update ── finish(rejections)
//
// Between receive and finish the machine is busy with that response and ready returns nothing, so that the ACK leaves before
// the subscriptions that Apply made. All methods must be called under one lock, or from one goroutine.
type machine struct {
	node  *corev3.Node
	types map[string]*subscription
	order []*subscription // of types, by rank: the order of requests

	open     bool // a stream is open
	nodeSent bool // on this stream; only its first request carries the node
	acks     []*discoveryv3.DeltaDiscoveryRequest
	busy     *inflight

	notes []string // what a log should say of the last inputs
}

// newMachine returns a machine that subscribes to all resources of the types in wildcard, and keeps only the SHA-256 of
// resources whose types are in digestOnly.
func newMachine(node *corev3.Node, wildcard, digestOnly []string) *machine {
	m := &machine{node: node, types: make(map[string]*subscription)}
	for _, url := range wildcard {
		m.subscription(url).wildcard = true
	}
	for _, url := range digestOnly {
		m.subscription(url).digestOnly = true
	}
	return m
}

// subscription returns the type's state, new if need be.
func (m *machine) subscription(typeURL string) *subscription {
	s, ok := m.types[typeURL]
	if !ok {
		s = newSubscription(typeURL)
		m.types[typeURL] = s
		m.order = append(m.order, s)
		slices.SortFunc(m.order, func(a, b *subscription) int {
			return cmp.Or(cmp.Compare(rank(a.typeURL), rank(b.typeURL)), strings.Compare(a.typeURL, b.typeURL))
		})
	}
	return s
}

// connect begins a new stream, on which everything has to be asked for again.
func (m *machine) connect() {
	m.open, m.nodeSent, m.acks = true, false, nil
	for _, s := range m.order {
		s.beginStream()
	}
}

// disconnect ends the stream. What is held stays in force.
func (m *machine) disconnect() {
	m.open, m.acks = false, nil
}

// ready takes the requests that are to be sent now: first the answers to responses, in their order, then at most one request
// per type for what changed in its subscription (two where a name was dropped and wanted again, see subscription.requests).
func (m *machine) ready() []*discoveryv3.DeltaDiscoveryRequest {
	if !m.open || m.busy != nil {
		return nil
	}
	out := m.acks
	m.acks = nil
	for _, s := range m.order {
		out = append(out, s.requests()...)
	}
	if len(out) > 0 && !m.nodeSent {
		out[0].Node, m.nodeSent = m.node, true
	}
	return out
}

// setNames makes names the whole subscription of a type.
func (m *machine) setNames(typeURL string, names []string) {
	s := m.named(typeURL)
	keep := make(map[string]bool, len(names))
	for _, n := range names {
		keep[n] = true
		m.add(s, n)
	}
	for n := range s.want {
		if !keep[n] {
			s.remove(n)
		}
	}
}

// subscribe adds names to the subscription of a type.
func (m *machine) subscribe(typeURL string, names []string) {
	s := m.named(typeURL)
	for _, n := range names {
		m.add(s, n)
	}
}

// unsubscribe takes names from the subscription of a type.
func (m *machine) unsubscribe(typeURL string, names []string) {
	s := m.named(typeURL)
	for _, n := range names {
		s.remove(n)
	}
}

// add subscribes one name, unless it is one that the protocol gives another meaning: names come from configuration, and a cluster
// called "*" must not subscribe to the endpoints of the whole mesh.
func (m *machine) add(s *subscription, name string) {
	if name == "" || name == "*" {
		m.note("%s: the resource name %q cannot be subscribed: in delta xDS it stands for every resource", ShortType(s.typeURL), name)
		return
	}
	s.add(name)
}

// named returns the state of a type that is subscribed by name. Naming resources of a wildcard type is a mistake in the program.
func (m *machine) named(typeURL string) *subscription {
	s := m.subscription(typeURL)
	if s.wildcard {
		panic("xdsclient: " + typeURL + " is subscribed as a whole; its resources cannot be subscribed by name")
	}
	return s
}
