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
	policies []policy  // in the order in which they are tried
	onMiss   Decision  // when no policy matches
	texts    sync.Pool // of *[]byte
	lines    sync.Pool // of *lines

	// A set of some size has an index of its policies, or indexes inside of them, and then a list of the attributes that these
	// look up. See index.go.
	index      *index
	lookup     reading // possibly, if any policy reads so
	attributes []attribute
	caches     sync.Pool // of *cache
}

type policy struct {
	name                    string
	permissions, principals Clause
	reading                 reading // under which it has to match
	onMatch                 Decision
}

// Compile makes a PolicySet, of which the policies are tried in the byte order of their names. It copies the clauses and
// simplifies them without changing their meaning. Errors name the policy: two of one name, a nil clause, a clause without the
// value that it needs.
func Compile(action Action, policies []Policy) (*PolicySet, error) {
	if action > Log {
		return nil, fmt.Errorf("unknown action %d", action)
	}
	s := newSet(action, len(policies))
	for i := range policies {
		r := possibly
		if action == Allow {
			r = certainly
		}
		if err := s.add(action, r, &policies[i]); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(s.policies, func(a, b policy) int { return cmp.Compare(a.name, b.name) })
	for i := 1; i < len(s.policies); i++ {
		if s.policies[i].name == s.policies[i-1].name {
			return nil, fmt.Errorf("policy %q: there are two of this name", s.policies[i].name)
		}
	}
	s.buildIndex(minPolicies, minParts)
	return s, nil
}

// Rule is a policy with an action of its own.
type Rule struct {
	Action Action
	Policy Policy
}

// CompileOrdered makes a PolicySet of rules that are tried in the order given, whatever their names, and of which the first
// that matches says what happens: the form of Envoy's RBAC matcher trees. A request that matches none is denied. Names may
// repeat, and a rule without a name that denies does so as if nothing had matched. The set's own Action is Allow. Log lets
// pass here, so it has to match as certainly as Allow.
func CompileOrdered(rules []Rule) (*PolicySet, error) {
	s := newSet(Allow, len(rules))
	for i := range rules {
		if rules[i].Action > Log {
			return nil, fmt.Errorf("policy %q: unknown action %d", rules[i].Policy.Name, rules[i].Action)
		}
		r := certainly
		if rules[i].Action == Deny {
			r = possibly
		}
		if err := s.add(rules[i].Action, r, &rules[i].Policy); err != nil {
			return nil, err
		}
	}
	s.buildIndex(minPolicies, minParts)
	return s, nil
}

func newSet(action Action, n int) *PolicySet {
	s := &PolicySet{
		action:   action,
		policies: make([]policy, 0, n),
		onMiss:   Decision{Allowed: action != Allow, Action: action},
		texts:    sync.Pool{New: func() any { return new([]byte) }},
		lines:    sync.Pool{New: func() any { return new(lines) }},
		caches:   sync.Pool{New: func() any { return new(cache) }},
	}
	if action == Allow {
		s.onMiss.Details = details("")
	}
	return s
}

// add compiles one policy. One that lets pass must certainly match; one that denies, or logs and decides nothing, only
// possibly.
func (s *PolicySet) add(action Action, r reading, p *Policy) error {
	permissions, err := simplify(Or(p.Permissions))
	if err != nil {
		return fmt.Errorf("policy %q: permissions: %w", p.Name, err)
	}
	principals, err := simplify(Or(p.Principals))
	if err != nil {
		return fmt.Errorf("policy %q: principals: %w", p.Name, err)
	}
	if r == possibly {
		s.lookup = possibly
	}
	s.policies = append(s.policies, policy{p.Name, permissions, principals, r, onMatch(action, p.Name)})
	return nil
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

// Decide gives the verdict on a request, by the first policy that matches.
func (s *PolicySet) Decide(r *Request) Decision {
	if s == nil {
		return Decision{Allowed: true}
	}
	return *s.decide(r)
}

// decide returns one of the decisions that were made at Compile.
func (s *PolicySet) decide(r *Request) *Decision {
	at := s.first(r)
	if at == len(s.policies) {
		return &s.onMiss
	}
	return &s.policies[at].onMatch
}

// first returns the place of the first policy that matches, or len(s.policies).
func (s *PolicySet) first(r *Request) int {
	e := s.evaluate(r)
	var at int
	if s.attributes == nil {
		at = s.firstOf(&e)
	} else {
		e.cache = s.caches.Get().(*cache)
		e.cache.attributes = s.attributes
		if s.index == nil {
			at = s.firstOf(&e)
		} else {
			at = int(s.index.first(&e, s.lookup))
		}
		e.cache.release(&s.caches)
	}
	e.release()
	return at
}

// firstOf tries the policies one after the other. Without a cache that is the plain evaluator.
func (s *PolicySet) firstOf(e *evaluation) int {
	for i := range s.policies {
		if e.matches(&s.policies[i]) {
			return i
		}
	}
	return len(s.policies)
}

// evaluate begins a plain evaluation. It is to be released.
func (s *PolicySet) evaluate(r *Request) evaluation {
	return evaluation{request: r, set: s}
}
