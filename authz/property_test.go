package authz

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"
)

// The properties hold for all policies and requests; here for random ones over a small vocabulary, so that things
// match often.

const rounds = 20_000

// world makes random clauses and requests.
type world struct {
	*rand.Rand
	repeat bool // headers may be repeated
	vague  bool // addresses may be unknown, and strings not UTF-8
}

func eachRound(t *testing.T, w world, check func(w world) string) {
	t.Helper()
	for seed := range uint64(rounds) {
		w.Rand = rand.New(rand.NewPCG(seed, 1))
		if problem := check(w); problem != "" {
			t.Fatalf("seed %d: %s", seed, problem)
		}
	}
}

func (w world) word() string {
	words := []string{"a", "b", "ab", "a,b", "", "A"}
	if w.vague && w.IntN(4) == 0 {
		return "a\xff"
	}
	return words[w.IntN(len(words))]
}

func (w world) pattern() Pattern {
	text := w.word()
	switch w.IntN(7) {
	case 0:
		return Exact(text)
	case 1:
		return Prefix(text)
	case 2:
		return Suffix(text)
	case 3:
		return Contains(text)
	case 4:
		return Exact(text).IgnoreCase()
	}
	expr := []string{".+", ".*a.*", "a|b", "[^b]*", "a(.+|)"}[w.IntN(5)]
	p, err := Regex(expr)
	if err != nil {
		panic(err)
	}
	return p
}

func (w world) prefix() netip.Prefix {
	return netip.PrefixFrom(w.addr(), 24+w.IntN(9))
}

func (w world) addr() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, 0, byte(w.IntN(3))})
}

func (w world) maybeAddr() netip.Addr {
	if w.vague {
		switch w.IntN(6) {
		case 0, 1:
			return netip.Addr{}
		case 2:
			return netip.AddrFrom16(w.addr().As16()) // in IPv6 form
		}
	}
	return w.addr()
}

// stateAddr is what filter state holds under "b": an address, mostly.
func (w world) stateAddr() string {
	if addr := w.maybeAddr(); addr.IsValid() {
		return addr.String()
	}
	return "unknown"
}

func (w world) clause(depth int) Clause {
	if depth > 0 && w.IntN(3) > 0 {
		switch w.IntN(3) {
		case 0:
			return And(w.clauses(depth-1, w.IntN(4)))
		case 1:
			return Or(w.clauses(depth-1, w.IntN(4)))
		}
		return &Not{w.clause(depth - 1)}
	}
	switch w.IntN(13) {
	case 12:
		return &AddressText{Of: Address(w.IntN(4)), Pattern: []Pattern{Prefix("10."), Exact("10.0.0.1"), Contains("::ffff:")}[w.IntN(3)]}
	case 0:
		return Always{}
	case 1:
		return &Path{w.pattern()}
	case 2:
		return &IP{Address(w.IntN(4)), w.prefix()}
	case 3:
		port := uint32(80 + w.IntN(3))
		return &DestinationPort{port, port + 1}
	case 4:
		return &ServerName{w.pattern()}
	case 5:
		p := w.pattern()
		return &Authenticated{&p}
	case 6:
		return &FilterStateIs{w.word(), w.pattern()}
	case 7:
		return &FilterStateIP{w.word(), []netip.Prefix{w.prefix()}, w.IntN(2) == 0}
	case 8:
		test := ValueAnyOf{&ValueString{w.pattern()}, &ValueListHas{&ValueString{w.pattern()}}, ValuePresent(w.IntN(2) == 0)}
		return &MetadataIs{DynamicMetadata, "f", []string{w.word()}, test[w.IntN(3)], w.IntN(2) == 0}
	}
	name := []string{"x-a", "x-b", "via"}[w.IntN(3)]
	return &Header{
		Name: name, oneLine: OneLine(name), Test: HeaderTest(w.IntN(3)), Pattern: w.pattern(), From: 1, To: 3,
		Present: w.IntN(2) == 0, Invert: w.IntN(3) == 0, MissingIsEmpty: w.IntN(3) == 0,
	}
}

func (w world) clauses(depth, n int) []Clause {
	var all []Clause
	for range n {
		all = append(all, w.clause(depth))
	}
	return all
}

func (w world) policies() []Policy {
	var all []Policy
	for i := range w.IntN(4) {
		all = append(all, Policy{fmt.Sprint("p", i), w.clauses(2, 1+w.IntN(2)), w.clauses(2, 1+w.IntN(2))})
	}
	return all
}

func (w world) values() []string {
	n := w.IntN(2)
	if w.repeat {
		n = w.IntN(4)
	}
	var all []string
	for range n {
		all = append(all, []string{w.word(), "1", "2"}[w.IntN(3)])
	}
	return all
}

func (w world) request() *Request {
	list, err := structpb.NewList([]any{"a", "b"})
	if err != nil {
		panic(err)
	}
	claims := &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewStringValue(w.word()), "b": structpb.NewListValue(list)}}
	return &Request{
		HTTP: w.IntN(8) > 0, Method: "GET", Path: w.word(), Headers: mapHeaders{"x-a": w.values(), "x-b": w.values(), "via": w.values()},
		FilterState: mapState{"a": w.word(), "b": w.stateAddr()}, Metadata: oneMetadata{claims},
		Peer: []*Peer{nil, {URISANs: []string{w.word()}, Subject: w.word()}}[w.IntN(2)], ServerName: w.word(),
		SourceIP: w.maybeAddr(), DirectRemoteIP: w.maybeAddr(), RemoteIP: w.maybeAddr(),
		Destination: netip.AddrPortFrom(w.maybeAddr(), uint16(80+w.IntN(3))),
	}
}

type mapHeaders map[string][]string

func (h mapHeaders) Header(name string, i int) (string, bool) {
	if i < len(h[name]) {
		return h[name][i], true
	}
	return "", false
}

type mapState map[string]string

func (s mapState) FilterState(key string) (string, bool) { v, ok := s[key]; return v, ok }

type oneMetadata struct{ claims *structpb.Struct }

func (m oneMetadata) Metadata(MetadataSource, string) *structpb.Struct { return m.claims }

func compiled(action Action, policies ...Policy) *PolicySet {
	s, err := Compile(action, policies)
	if err != nil {
		panic(err)
	}
	return s
}

func evaluationOf(r *Request) *evaluation {
	e := compiled(Allow).evaluate(r)
	return &e
}

func TestExplainAgreesWithDecide(t *testing.T) {
	eachRound(t, world{repeat: true, vague: true}, func(w world) string {
		action := Action(w.IntN(3))
		s, r := compiled(action, w.policies()...), w.request()
		d, x := s.Decide(r), s.Explain(r)
		if d != x.Decision {
			return fmt.Sprintf("Decide says %+v, Explain %+v", d, x.Decision)
		}
		first := slices.IndexFunc(x.Policies, func(p PolicyExplanation) bool { return p.Matched })
		if (first >= 0) != (d.Policy != "") || first >= 0 && x.Policies[first].Policy != d.Policy {
			return fmt.Sprintf("the first policy that matched is not the one that decided: %+v", x)
		}
		for _, p := range x.Policies {
			if !p.Matched && len(p.Reasons) == 0 {
				return fmt.Sprintf("policy %s did not match, for no reason", p.Policy)
			}
		}
		return ""
	})
}

func TestCertainIsPossible(t *testing.T) {
	eachRound(t, world{repeat: true, vague: true}, func(w world) string {
		c, e := w.clause(3), evaluationOf(w.request())
		if e.holds(c, certainly) && !e.holds(c, possibly) {
			return fmt.Sprintf("%+v holds certainly but not possibly", c)
		}
		return ""
	})
}

func TestPlainValuesHaveOneReading(t *testing.T) {
	eachRound(t, world{}, func(w world) string {
		c, e := w.clause(3), evaluationOf(w.request())
		if w.hasVagueState(c) {
			return ""
		}
		if e.holds(c, certainly) != e.holds(c, possibly) {
			return fmt.Sprintf("%+v has two readings", c)
		}
		return ""
	})
}

// hasVagueState reports a test for an address on filter state that holds none: unknown even in a plain world.
func (w world) hasVagueState(c Clause) bool {
	switch c := c.(type) {
	case And:
		return slices.ContainsFunc(c, w.hasVagueState)
	case Or:
		return slices.ContainsFunc(c, w.hasVagueState)
	case *Not:
		return w.hasVagueState(c.Clause)
	case *FilterStateIP:
		return c.Key == "a"
	}
	return false
}

func TestDoubleNegation(t *testing.T) {
	eachRound(t, world{repeat: true, vague: true}, func(w world) string {
		c, e := w.clause(3), evaluationOf(w.request())
		for _, r := range []reading{certainly, possibly} {
			if e.holds(c, r) != e.holds(&Not{&Not{c}}, r) {
				return fmt.Sprintf("not(not %+v) is not the same", c)
			}
		}
		return ""
	})
}

func TestSimplifyKeepsMeaning(t *testing.T) {
	eachRound(t, world{repeat: true, vague: true}, func(w world) string {
		c, e := w.clause(3), evaluationOf(w.request())
		simple, err := simplify(c)
		if err != nil {
			return err.Error()
		}
		for _, r := range []reading{certainly, possibly} {
			if e.holds(c, r) != e.holds(simple, r) {
				return fmt.Sprintf("%+v simplified to %+v", c, simple)
			}
		}
		return ""
	})
}

func TestMorePolicies(t *testing.T) {
	eachRound(t, world{repeat: true, vague: true}, func(w world) string {
		policies, r := w.policies(), w.request()
		more := append(slices.Clone(policies), Policy{"more", w.clauses(2, 1), w.clauses(2, 1)})
		if !compiled(Deny, policies...).Decide(r).Allowed && compiled(Deny, more...).Decide(r).Allowed {
			return "one more DENY policy allows more"
		}
		if compiled(Allow, policies...).Decide(r).Allowed && !compiled(Allow, more...).Decide(r).Allowed {
			return "one more ALLOW policy allows less"
		}
		if !compiled(Log, more...).Decide(r).Allowed {
			return "a LOG set denies"
		}
		return ""
	})
}

// A client gains nothing by repeating a header: with several lines it gets no more than with each of them alone.
func TestRepeatedHeaderGainsNothing(t *testing.T) {
	eachRound(t, world{repeat: true}, func(w world) string {
		policies, r := w.policies(), w.request()
		lines := r.Headers.(mapHeaders)["x-a"]
		for _, action := range []Action{Allow, Deny} {
			s := compiled(action, policies...)
			if !s.Decide(r).Allowed {
				continue
			}
			for _, line := range lines {
				alone := *r
				alone.Headers = mapHeaders{"x-a": {line}, "x-b": r.Headers.(mapHeaders)["x-b"], "via": r.Headers.(mapHeaders)["via"]}
				if !s.Decide(&alone).Allowed {
					return fmt.Sprintf("%v: x-a %q is allowed, but %q alone is not", action, lines, line)
				}
			}
		}
		return ""
	})
}

func TestCompileCopies(t *testing.T) {
	h := &Header{Name: "x-a", Pattern: Exact("a")}
	permissions := []Clause{h, &Path{Exact("/b")}}
	s := compiled(Allow, Policy{"p", permissions, []Clause{Always{}}})
	h.Pattern, permissions[1] = Exact("changed"), Always{}
	if !s.Decide(&Request{HTTP: true, Headers: mapHeaders{"x-a": {"a"}}}).Allowed {
		t.Error("the set changed with the header")
	}
	if s.Decide(&Request{HTTP: true}).Allowed {
		t.Error("the set changed with the slice")
	}
}

func TestCompileErrors(t *testing.T) {
	ok := []Clause{Always{}}
	for name, policies := range map[string][]Policy{
		`policy "p": there are two of this name`:                           {{"p", ok, ok}, {"p", ok, ok}},
		`policy "p": permissions: nil clause`:                              {{"p", []Clause{nil}, ok}},
		`policy "p": principals: nil clause`:                               {{"p", ok, []Clause{And{&Not{nil}}}}},
		`policy "p": permissions: header "": no name, or unknown test`:     {{"p", []Clause{&Header{}}, ok}},
		`policy "p": permissions: invalid address range`:                   {{"p", []Clause{&IP{}}, ok}},
		`policy "p": permissions: empty path template`:                     {{"p", []Clause{&URITemplate{}}, ok}},
		`policy "p": permissions: filter state "k": invalid address range`: {{"p", []Clause{&FilterStateIP{Key: "k", Ranges: make([]netip.Prefix, 1)}}, ok}},
		`policy "p": permissions: metadata "f": no path`:                   {{"p", []Clause{&MetadataIs{Filter: "f"}}, ok}},
		`policy "p": permissions: metadata: no test`:                       {{"p", []Clause{&MetadataIs{Filter: "f", Path: []string{"a"}}}, ok}},
	} {
		if s, err := Compile(Allow, policies); err == nil || err.Error() != name || s != nil {
			t.Errorf("%v, want %s", err, name)
		}
	}
	for _, c := range []Clause{(*Not)(nil), (*Header)(nil), (*Authenticated)(nil), And{&Not{(*IP)(nil)}}} {
		if _, err := Compile(Allow, []Policy{{"p", ok, []Clause{c}}}); err == nil || err.Error() != `policy "p": principals: nil clause` {
			t.Errorf("%T: %v", c, err)
		}
	}
	empty := &MetadataIs{Path: []string{"a"}, Value: &ValueListHas{(*ValueString)(nil)}}
	if _, err := Compile(Allow, []Policy{{"p", ok, []Clause{empty}}}); err == nil {
		t.Error("a test that is nil compiles")
	}
	if _, err := Compile(Log+1, nil); err == nil {
		t.Error("an unknown action compiles")
	}
}

func TestNilSet(t *testing.T) {
	var s *PolicySet
	want := Decision{Allowed: true}
	if d := s.Decide(&Request{}); d != want || s.Len() != 0 || s.Action() != Allow {
		t.Errorf("a nil set says %+v", d)
	}
	if x := s.Explain(&Request{}); !reflect.DeepEqual(x, Explanation{Decision: want, Nearest: -1}) {
		t.Errorf("a nil set explains %+v", x)
	}
	if got := s.Explain(&Request{}).String(); got != "allowed: nothing is enforced\n" {
		t.Errorf("a nil set explains %q", got)
	}
	if (Decision{}).Allowed {
		t.Error("the zero Decision allows")
	}
}
