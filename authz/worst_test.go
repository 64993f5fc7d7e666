package authz

import (
	"fmt"
	"testing"
)

// What a client sends may make a decision as slow as trying all policies, and not slower by orders of magnitude.

// counted counts what is asked of it.
type counted struct {
	mapHeaders
	mapState
	headers, states int
}

func (c *counted) Header(name string, i int) (string, bool) {
	c.headers++
	return c.mapHeaders.Header(name, i)
}

func (c *counted) FilterState(key string) (string, bool) {
	c.states++
	return c.mapState.FilterState(key)
}

func linesOf(prefix string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%s%03d", prefix, i))
	}
	return all
}

// A header on a hundred lines is read once, not by each policy that asks for it.
func TestLinesAreReadOnce(t *testing.T) {
	const policies, lines = 1_000, 100
	var all []Policy
	for i := range policies {
		pattern := Contains(fmt.Sprint("z", i)) // nothing that an index could look up
		all = append(all, Policy{fmt.Sprint("p", i), []Clause{&Header{Name: "x-a", Pattern: pattern}}, []Clause{Always{}}})
	}
	for _, action := range []Action{Allow, Deny} {
		r := &counted{mapHeaders: mapHeaders{"x-a": linesOf("a", lines)}}
		compiled(action, all...).Decide(&Request{HTTP: true, Headers: r})
		if limit := 2*policies + 2*lines; r.headers > limit {
			t.Errorf("%v: lines are read %d times, want %d at most", action, r.headers, limit)
		}
	}
}

// Lines that all lead to the same policies do not make each be tried for each line.
func TestLinesDoNotMultiplyTries(t *testing.T) {
	const policies, lines = 1_000, 100
	var values Or
	for _, line := range linesOf("a", lines) {
		values = append(values, &Header{Name: "x-a", Pattern: Exact(line)})
	}
	for name, clause := range map[string]Clause{"one key": &Header{Name: "x-a", Pattern: Prefix("a")}, "a key for each line": values} {
		var all []Policy
		for i := range policies {
			tried := &FilterStateIs{Key: "k", Pattern: Contains(fmt.Sprintf("z%03d", i))}
			all = append(all, Policy{fmt.Sprint("p", i), []Clause{And{tried, clause}}, []Clause{Always{}}})
		}
		for _, policy := range []Policy{{}, all[policies/2]} { // none holds, or one does
			r := &counted{mapHeaders: mapHeaders{"x-a": linesOf("a", lines)}, mapState: mapState{"k": "none"}}
			if policy.Name != "" {
				r.mapState["k"] = fmt.Sprintf("z%03d", policies/2)
			}
			d := compiled(Deny, all...).Decide(&Request{HTTP: true, Headers: r, FilterState: r})
			if d.Policy != policy.Name {
				t.Errorf("%s: decided by %q, want %q", name, d.Policy, policy.Name)
			}
			if limit := 3 * policies; r.states > limit {
				t.Errorf("%s: %d policies are tried %d times", name, policies, r.states)
			}
		}
	}
}

// Lines of several headers do not multiply: here by an index alone, 10^12 ways lead to a path that no policy asks for.
func TestLinesOfSeveralHeadersDoNotMultiply(t *testing.T) {
	const headers, lines = 12, 10
	request := &Request{HTTP: true, Path: "/none", Headers: mapHeaders{}}
	var shared And
	for i := range headers {
		name := fmt.Sprint("x-", i)
		request.Headers.(mapHeaders)[name] = linesOf("a", lines)
		var values Or
		for _, line := range linesOf("a", lines) {
			values = append(values, &Header{Name: name, Pattern: Exact(line)})
		}
		shared = append(shared, values)
	}
	var all []Policy
	for i := range 100 {
		// An index looks up exact values first, and comes to the path at the end of every way.
		clauses := And{shared, &Path{Suffix("/q")}, &Path{Contains(fmt.Sprint(i))}}
		all = append(all, Policy{fmt.Sprint("p", i), []Clause{clauses}, []Clause{Always{}}})
	}
	s := compiled(Deny, all...)
	if d := s.Decide(request); !d.Allowed {
		t.Errorf("%+v", d)
	}
	request.Path = "/55/q"
	if d := s.Decide(request); d.Policy != "p5" {
		t.Errorf("%+v", d)
	}
}

// The reasons of a policy for many principals take time, and text, in proportion to them.
func BenchmarkExplainManyPrincipals(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		var principals []Clause
		for i := range n {
			principals = append(principals, &FilterStateIs{PeerPrincipal, Exact(fmt.Sprint("spiffe://cluster.local/ns/shop/sa/", i))})
		}
		s := compiled(Allow, Policy{"p", []Clause{Always{}}, principals})
		r := &Request{FilterState: mapState{PeerPrincipal: "spiffe://cluster.local/ns/shop/sa/x"}}
		b.Run(fmt.Sprint("principals-", n), func(b *testing.B) {
			for b.Loop() {
				s.Explain(r)
			}
		})
	}
}

func BenchmarkManyLines(b *testing.B) {
	var all []Policy
	for i := range 10_000 {
		clauses := And{&Header{Name: "x-a", Pattern: Prefix("a")}, &Header{Name: "x-b", Pattern: Contains(fmt.Sprint("z", i))}}
		all = append(all, Policy{fmt.Sprintf("p%04d", i), []Clause{clauses}, []Clause{Always{}}})
	}
	s := compiled(Deny, all...)
	for _, lines := range []int{1, 10, 50} {
		r := &Request{HTTP: true, Headers: mapHeaders{"x-a": linesOf("a", lines), "x-b": linesOf("b", lines)}}
		b.Run(fmt.Sprint("lines-", lines), func(b *testing.B) {
			for b.Loop() {
				s.Decide(r)
			}
		})
	}
}
