// Package witness makes requests out of the constants of policies: requests that lie on both sides of every boundary which
// the policies draw. Whoever asks two sets of policies the same witnesses sees where they differ; whoever feeds them to an
// evaluator tests it where it can go wrong.
//
//	found, err := witness.Of(append(old, new...), witness.Options{Target: target})
//	for _, q := range found.Queries { … }
//
// For each alternative of a rule there is a request that matches it (unless none can), preferably one that no other
// alternative of a stronger or of the same action matches; for each of its clauses one that fails only this clause; each
// constant as it is, one character longer, shorter and in the other case; wildcards filled in; hosts with and without a
// port; paths with a slash, a query, escaped, doubled and dotted; the neighbours of every address range; no identity,
// another account of the namespace; no token. Pairs of alternatives are combined where both can match.
//
// The result depends on its arguments only. It is a search, not a proof: [Coverage] says how far it went.
package witness

import (
	"fmt"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

// DefaultLimit bounds the requests: a second or two of deciding on a small set of policies.
const DefaultLimit = 100_000

// Options of Of.
type Options struct {
	// Target says how policies are compiled: trust domains, and TCP for connections instead of requests. Its objects do not
	// matter: all policies given count.
	Target istio.Target
	// Paths is the mesh's normalisation; the zero value is NONE.
	Paths pathnorm.Options
	// Defaults is what a request has where no policy cares, such as the host and the port of the service. A method, a path
	// and, where policies ask for it, an identity are made up if it has none.
	Defaults query.Query
	// Issuers of tokens that the target's RequestAuthentications know; a request with any other token is refused before any
	// policy is asked. Nil: any.
	Issuers []string
	// Ports that clients can dial; nil: any.
	Ports []uint16
	// Limit bounds the requests; 0 is DefaultLimit. What is looked for first is a match of each alternative, in order.
	Limit int
}

// Found are requests with a measure of them.
type Found struct {
	Queries  []query.Query // no two are equal
	Coverage Coverage
}

// Coverage is a measure of what the requests exercise.
type Coverage struct {
	Alternatives int `json:"alternatives"`
	// Matched alternatives have a request that matches them.
	Matched int `json:"matched"`
	// Clauses are the positive and negative lists of values in them; Isolated ones have a request that fails only them.
	Clauses  int `json:"clauses"`
	Isolated int `json:"isolated"`
	// Unmatched are the alternatives that no request was found for: contradictions, or what a TCP connection does not have.
	Unmatched []string `json:"unmatched,omitempty"`
	// Truncated says that the limit was reached before all was tried.
	Truncated bool `json:"truncated,omitempty"`
	Requests  int  `json:"requests"`
}

func (c Coverage) String() string {
	s := fmt.Sprintf("%d requests; %d of %d alternatives have one that matches, %d of %d clauses one that fails only them",
		c.Requests, c.Matched, c.Alternatives, c.Isolated, c.Clauses)
	if c.Truncated {
		s += "; not everything was tried"
	}
	return s
}

// Of makes the requests. An error is one of compiling a policy.
func Of(policies []istio.Policy, o Options) (*Found, error) {
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	s, err := newSearch(alternative.Of(policies), o)
	if err != nil {
		return nil, err
	}
	s.run()
	s.found.Coverage.Requests = len(s.found.Queries)
	return &s.found, nil
}
