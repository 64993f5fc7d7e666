package witness

import (
	"fmt"
	"slices"
	"strconv"

	securityv1beta1 "istio.io/api/security/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

// search is one run of Of.
type search struct {
	options  Options
	all      []*part
	defaults query.Query
	// dimensions that any alternative asks about, with all of their constants.
	dimensions []alternative.Dimension
	tests      map[alternative.Dimension][]alternative.Test

	found Found
	seen  map[string]bool
	asked int // how often an alternative was asked whether it matches
}

// part is an alternative, ready to be asked.
type part struct {
	alternative.Alternative
	matcher alternative.Matcher
	axes    []*axis
}

// axis is what an alternative asks about one dimension.
type axis struct {
	dimension alternative.Dimension
	matcher   alternative.Matcher
	clauses   []alternative.Matcher // one for each list of values or of values that must not be
	values    []value               // that its constants suggest
	good      []value               // those that pass
	passed    map[string]bool       // by the id of a value: whether it passes
}

func newSearch(alternatives []alternative.Alternative, o Options) (*search, error) {
	s := &search{options: o, seen: map[string]bool{}, tests: map[alternative.Dimension][]alternative.Test{}}
	known := map[string]bool{}
	for _, a := range alternatives {
		if key := a.Key(); known[key] { // the same in both of two sets
			continue
		} else {
			known[key] = true
		}
		s.found.Coverage.Alternatives++
		usable, ok := s.usable(&a)
		if !ok {
			s.found.Coverage.Unmatched = append(s.found.Coverage.Unmatched, a.Where())
			continue
		}
		a.Tests = usable
		for _, t := range usable {
			if s.tests[t.Dimension] == nil {
				s.dimensions = append(s.dimensions, t.Dimension)
			}
			s.tests[t.Dimension] = append(s.tests[t.Dimension], t)
		}
		s.all = append(s.all, &part{Alternative: a})
	}
	s.setDefaults()
	for _, p := range s.all {
		if err := s.compile(p); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Where(), err)
		}
	}
	return s, nil
}

// usable are the tests that count on the target: on a TCP port an ALLOW rule with HTTP attributes is no rule, and others lose
// those attributes.
func (s *search) usable(a *alternative.Alternative) ([]alternative.Test, bool) {
	if !s.options.Target.TCP {
		return a.Tests, true
	}
	var out []alternative.Test
	for _, t := range a.Tests {
		if !t.HTTP {
			out = append(out, t)
		} else if a.Action() == securityv1beta1.AuthorizationPolicy_ALLOW {
			return nil, false
		}
	}
	return out, true
}

func (s *search) trustDomain() string {
	if len(s.options.Target.TrustDomains) > 0 {
		return s.options.Target.TrustDomains[0]
	}
	return "cluster.local"
}

// setDefaults makes up a value for each dimension that any policy asks about and that has none.
func (s *search) setDefaults() {
	q := s.options.Defaults
	q.TCP = s.options.Target.TCP
	if !q.TCP {
		if q.Method == "" {
			q.Method = "GET"
		}
		if q.Path == "" {
			q.Path = "/"
		}
	}
	for _, d := range s.dimensions {
		switch {
		case d.Kind == alternative.Source && q.Source == "":
			q.Source = identity{s.trustDomain(), elsewhere, somebody}.String()
		case d.Kind == alternative.Host && q.Host == "":
			q.Host = elsewhere + ".example"
		case d.Kind == alternative.Port && q.Port == 0:
			if q.Port = 80; len(s.options.Ports) > 0 {
				q.Port = s.options.Ports[0]
			}
		case d.Kind == alternative.SourceIP && !q.SourceIP.IsValid(), d.Kind == alternative.RemoteIP && !q.RemoteIP.IsValid(),
			d.Kind == alternative.DestinationIP && !q.DestinationIP.IsValid():
			put(&q, d, texts("203.0.113.7")[0])
		}
	}
	s.defaults = q
}

func (s *search) compile(p *part) error {
	target := s.options.Target
	namespace := p.Object().Namespace
	var err error
	if p.matcher, err = alternative.Compile(p.Tests, namespace, target); err != nil {
		return err
	}
	for _, d := range p.Dimensions() {
		x := &axis{dimension: d, passed: map[string]bool{}}
		var own, clauses []alternative.Test
		for _, t := range p.Tests {
			if t.Dimension != d {
				continue
			}
			own = append(own, t)
			if len(t.Values) > 0 {
				only := t
				only.Not = nil
				clauses = append(clauses, only)
			}
			if len(t.Not) > 0 {
				only := t
				only.Values = nil
				clauses = append(clauses, only)
			}
		}
		s.found.Coverage.Clauses += len(clauses)
		if x.matcher, err = alternative.Compile(own, namespace, target); err != nil {
			return err
		}
		for _, c := range clauses {
			m := x.matcher
			if len(clauses) > 1 {
				if m, err = alternative.Compile([]alternative.Test{c}, namespace, target); err != nil {
					return err
				}
			}
			x.clauses = append(x.clauses, m)
		}
		x.values = s.candidates(d, own)
		for _, v := range x.values {
			if s.accepts(x, v) {
				x.good = append(x.good, v)
			}
		}
		p.axes = append(p.axes, x)
	}
	return nil
}

// candidates are those that the options leave.
func (s *search) candidates(d alternative.Dimension, tests []alternative.Test) []value {
	if d.Kind == alternative.Port && s.options.Ports != nil {
		var out []value
		for _, p := range s.options.Ports {
			out = append(out, texts(strconv.Itoa(int(p)))...)
		}
		return unique(out)
	}
	values := candidates(d, tests, s.trustDomain(), s.options.Issuers)
	if d.Kind != alternative.Token || s.options.Issuers == nil {
		return values
	}
	return slices.DeleteFunc(values, func(v value) bool { return !v.absent && !slices.Contains(s.options.Issuers, v.token.issuer) })
}

// passes reports whether a value of one dimension passes a matcher that asks about this dimension alone.
func (s *search) passes(m alternative.Matcher, d alternative.Dimension, v value) bool {
	q := s.defaults
	put(&q, d, v)
	return s.matches(m, &q)
}

// accepts reports whether a value passes all of an axis.
func (s *search) accepts(x *axis, v value) bool {
	ok, known := x.passed[v.id]
	if !known {
		ok = s.passes(x.matcher, x.dimension, v)
		x.passed[v.id] = ok
	}
	return ok
}

func (s *search) matches(m alternative.Matcher, q *query.Query) bool {
	r, err := q.Request(s.options.Paths)
	return err == nil && m.Match(r)
}

// axis returns what a part asks about a dimension, nil for nothing.
func (p *part) axis(d alternative.Dimension) *axis {
	i := slices.IndexFunc(p.axes, func(x *axis) bool { return x.dimension == d })
	if i < 0 {
		return nil
	}
	return p.axes[i]
}

// add keeps a query unless it is known or cannot be sent, and reports whether there is room for more.
func (s *search) add(q query.Query) bool {
	if len(s.found.Queries) >= s.options.Limit {
		s.found.Coverage.Truncated = true
		return false
	}
	if len(s.options.Issuers) > 0 && len(q.Claims) > 0 && q.Claims["iss"] == nil {
		q.Claims = with(q.Claims, []string{"iss"}, s.options.Issuers[0], false)
	}
	key := q.Flags()
	if s.seen[key] {
		return true
	}
	s.seen[key] = true
	if _, err := q.Request(s.options.Paths); err != nil {
		return true
	}
	s.found.Queries = append(s.found.Queries, q)
	return true
}
