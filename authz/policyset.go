package authz

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// Policy is a named rule: it matches a request when any of its permissions and any of its principals hold. Permissions
// are about what is asked for and principals about who asks, but either may hold any clause.
type Policy struct {
	Name                    string
	Permissions, Principals []Clause
}

// PolicySet is a compiled, immutable set of policies with one action. It is safe for concurrent use. A nil *PolicySet
// enforces nothing.
type PolicySet struct {
	action   Action
	reading  reading // under which a policy has to match
	policies []policy
	onMiss   Decision  // when no policy matches
	joins    sync.Pool // of *[]byte
}

type policy struct {
	name                    string
	permissions, principals Clause
	onMatch                 Decision
}

// Compile makes a PolicySet. It copies the clauses and simplifies them without changing their meaning. Errors name the
// policy: two of one name, a nil clause, a clause without the value that it needs.
func Compile(action Action, policies []Policy) (*PolicySet, error) {
	if action > Log {
		return nil, fmt.Errorf("unknown action %d", action)
	}
	s := &PolicySet{
		action:  action,
		reading: possibly,
		onMiss:  Decision{Allowed: action != Allow, Action: action},
		joins:   sync.Pool{New: func() any { return new([]byte) }},
	}
	if action == Allow {
		s.reading = certainly
		s.onMiss.Details = details("")
	}
	for _, p := range policies {
		permissions, err := simplify(Or(p.Permissions))
		if err != nil {
			return nil, fmt.Errorf("policy %q: permissions: %w", p.Name, err)
		}
		principals, err := simplify(Or(p.Principals))
		if err != nil {
			return nil, fmt.Errorf("policy %q: principals: %w", p.Name, err)
		}
		s.policies = append(s.policies, policy{p.Name, permissions, principals, onMatch(action, p.Name)})
	}
	slices.SortFunc(s.policies, func(a, b policy) int { return cmp.Compare(a.name, b.name) })
	for i := 1; i < len(s.policies); i++ {
		if s.policies[i].name == s.policies[i-1].name {
			return nil, fmt.Errorf("policy %q: there are two of this name", s.policies[i].name)
		}
	}
	return s, nil
}

func onMatch(action Action, name string) Decision {
	d := Decision{Allowed: action != Deny, Action: action, Policy: name}
	d.Source, _ = ParseSource(name)
	if !d.Allowed {
		d.Details = details(name)
	}
	return d
}

// Action returns what the set does with a request that matches. It is Allow for a nil set.
func (s *PolicySet) Action() Action {
	if s == nil {
		return Allow
	}
	return s.action
}

// Len returns the number of policies.
func (s *PolicySet) Len() int {
	if s == nil {
		return 0
	}
	return len(s.policies)
}

// Decide gives the verdict on a request, by the first policy that matches in the order of names.
func (s *PolicySet) Decide(r *Request) Decision {
	if s == nil {
		return Decision{Allowed: true}
	}
	e := s.evaluate(r)
	for i := range s.policies {
		if p := &s.policies[i]; e.matches(p, s.reading) {
			return p.onMatch
		}
	}
	return s.onMiss
}

func (s *PolicySet) evaluate(r *Request) evaluation {
	path, hasPath := r.pathOnly()
	return evaluation{request: r, path: path, hasPath: hasPath, joins: &s.joins}
}
