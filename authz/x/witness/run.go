package witness

import (
	securityv1beta1 "istio.io/api/security/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

// maxContexts bounds the ALLOW alternatives that one of another action is combined with before its edges are walked: a DENY
// shows only where something allows. All pairs get their turn later, without the edges.
const maxContexts = 8

// maxAsked bounds how often alternatives are asked whether they match, so that some thousand of them end within seconds.
const maxAsked = 5_000_000

// run makes the requests, what matters most first.
func (s *search) run() {
	s.add(s.defaults)
	contexts := make([][]query.Query, len(s.all))
	for i, p := range s.all {
		base, ok := s.meet(p)
		if !ok || !s.matches(p.matcher, &base) {
			s.found.Coverage.Unmatched = append(s.found.Coverage.Unmatched, p.Where())
			continue
		}
		contexts[i] = s.contexts(p, base)
		matched := false
		for _, q := range contexts[i] {
			matched = s.add(q) || matched
		}
		if matched {
			s.found.Coverage.Matched++
		}
	}
	for i, p := range s.all {
		s.isolate(p, contexts[i])
	}
	for i, p := range s.all {
		for _, x := range p.axes {
			s.walk(contexts[i], x.dimension, x.values)
		}
	}
	s.pairs()
	s.elsewhere(contexts)
}

// meet makes a query that some parts match all at once, or reports that there is none.
func (s *search) meet(parts ...*part) (query.Query, bool) {
	q := s.defaults
	for _, p := range parts {
		for _, x := range p.axes {
			good := s.common(x.dimension, parts)
			if len(good) == 0 {
				return q, false
			}
			put(&q, x.dimension, good[0])
		}
	}
	return q, true
}

// common are the values of a dimension that all parts accept, nil too where none of them asks.
func (s *search) common(d alternative.Dimension, parts []*part) []value {
	var out []value
	for i, p := range parts {
		x := p.axis(d)
		if x == nil {
			continue
		}
		for _, v := range x.good {
			ok := true
			for j, other := range parts {
				if y := other.axis(d); j != i && y != nil && !s.accepts(y, v) {
					ok = false
				}
			}
			if ok {
				out = append(out, v)
			}
		}
	}
	return out
}

// contexts are queries that a part matches. For ALLOW: one that no other alternative of any action matches, one that nothing
// stronger matches, and the plain one. For others: such ones that an ALLOW alternative matches too.
func (s *search) contexts(p *part, base query.Query) []query.Query {
	var out []query.Query
	add := func(q query.Query, ok bool) {
		if ok {
			out = append(out, q)
		}
	}
	if p.allows() {
		add(s.avoid(base, []*part{p}, func(*part) bool { return true }))
		add(s.avoid(base, []*part{p}, func(o *part) bool { return !o.allows() }))
		return append(out, base)
	}
	add(s.avoid(base, []*part{p}, func(o *part) bool { return !o.allows() }))
	for _, o := range s.all {
		if !o.allows() || len(out) > maxContexts {
			continue
		}
		if both, ok := s.meet(p, o); ok {
			alone, clear := s.avoid(both, []*part{p, o}, func(o *part) bool { return !o.allows() })
			add(alone, clear)
			add(both, !clear)
		}
	}
	return append(out, base)
}

func (p *part) allows() bool { return p.Action() == securityv1beta1.AuthorizationPolicy_ALLOW }

// avoid changes a query so that no part of those against matches it while those kept go on matching. It gives up after a
// few rounds: each change may bring in another part.
func (s *search) avoid(q query.Query, keep []*part, against func(*part) bool) (query.Query, bool) {
	for range 3 {
		clear := true
		r, err := q.Request(s.options.Paths)
		for _, o := range s.all {
			if err != nil || isOneOf(o, keep) || !against(o) || !s.ask() || !o.matcher.Match(r) {
				continue
			}
			clear = false
			s.step(&q, o, keep)
			r, err = q.Request(s.options.Paths)
		}
		if clear {
			return q, true
		}
	}
	return q, false
}

// ask counts against maxAsked.
func (s *search) ask() bool {
	if s.asked >= maxAsked {
		s.found.Coverage.Truncated = true
		return false
	}
	s.asked++
	return true
}

// step moves a query out of a part, if one dimension is enough for that.
func (s *search) step(q *query.Query, o *part, keep []*part) {
	for _, x := range o.axes {
		values := s.common(x.dimension, keep)
		if values == nil {
			if !free(x.dimension, keep) {
				continue
			}
			values = x.values
		}
		for _, v := range values {
			if !s.accepts(x, v) {
				put(q, x.dimension, v)
				return
			}
		}
	}
}

func free(d alternative.Dimension, keep []*part) bool {
	for _, p := range keep {
		if p.axis(d) != nil {
			return false
		}
	}
	return true
}

func isOneOf(p *part, list []*part) bool {
	for _, o := range list {
		if o == p {
			return true
		}
	}
	return false
}

// isolate looks, for each clause of a part, for a value that fails this clause alone.
func (s *search) isolate(p *part, contexts []query.Query) {
	if len(contexts) == 0 {
		return
	}
	for _, x := range p.axes {
		for i := range x.clauses {
			for _, v := range x.values {
				if s.failsOnly(x, i, v) {
					s.walk(contexts, x.dimension, []value{v})
					s.found.Coverage.Isolated++
					break
				}
			}
		}
	}
}

func (s *search) failsOnly(x *axis, clause int, v value) bool {
	for i, m := range x.clauses {
		if s.passes(m, x.dimension, v) != (i != clause) {
			return false
		}
	}
	return true
}

// walk puts each value into each query.
func (s *search) walk(queries []query.Query, d alternative.Dimension, values []value) {
	for _, q := range queries {
		for _, v := range values {
			next := q
			put(&next, d, v)
			if !s.add(next) {
				return
			}
		}
	}
}

// pairs combines every two alternatives that one request can match.
func (s *search) pairs() {
	for i, p := range s.all {
		for _, o := range s.all[:i] {
			if !s.ask() {
				return
			}
			both, ok := s.meet(p, o)
			if !ok {
				continue
			}
			if alone, clear := s.avoid(both, []*part{p, o}, func(o *part) bool { return !o.allows() }); clear {
				both = alone
			}
			if !s.add(both) {
				return
			}
		}
	}
}

// elsewhere puts the constants of all alternatives into the first context of each.
func (s *search) elsewhere(contexts [][]query.Query) {
	for _, d := range s.dimensions {
		if len(s.found.Queries) >= s.options.Limit {
			s.found.Coverage.Truncated = true
			return
		}
		values := s.candidates(d, s.tests[d])
		for _, list := range contexts {
			if len(list) > 0 {
				s.walk(list[:1], d, values)
			}
		}
	}
}
