package authz

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"
)

// The plain evaluator says what is right: an index gives the same verdict by the same policy, for all sets and requests.

// town makes sets of policies as large as an index needs, over a vocabulary like Istio's, small enough that much is shared.
type town struct{ world }

var (
	townIdentities = []string{
		"spiffe://td/ns/a/sa/x", "spiffe://td/ns/a/sa/y", "spiffe://td/ns/b/sa/x", "spiffe://td/ns/b/x/sa/y", "spiffe://td/ns/a/sa/x/more",
		"spiffe://other/ns/ns/sa/sa", "spiffe://td/ns/ns/a/sa/x", "spiffe://td/ns/a/ns/b/sa/x/sa/y", "spiffe://td/ns//sa/", "/ns/a/sa/x", "", "a",
	}
	townPrincipals = []string{
		".*/ns/a/.*", ".*/ns/b/.*", ".*/ns/.*/.*", ".*/ns/a.*/.*", ".*/ns/ns/.*", "spiffe://.+/ns/a/(.+/|)sa/x(/.+)?", "spiffe://.+/ns/b/(.+/|)sa/x(/.+)?",
		"spiffe://.+/ns/b/(.+/|)sa/y(/.+)?", "spiffe://td/.*/sa/x", ".*/sa/y", "spiffe://[^/]*/ns/a/.*", "spiffe://(td|other)/.*", ".+", "td|a",
	}
	townPaths     = []string{"/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/A", "/b", "/b/c", "", "/a=b", "/a?b", "/é"}
	townTemplates = []string{"/a", "/a/*", "/a/**", "/*/b", "/**", "/*/*.c", "/a/{x=*}/c"}
	townHosts     = []string{"a.b", "A.b", "a.b:80", "b", "x.a.b", "x.A.B", ""}
	townMethods   = []string{"GET", "POST", "get", "PUT"}
	townLines     = []string{"a", "b", "ab", "a,b", "b,a", "A", "", "1", "a\xff", "\xff"}
	townRegexes   = []string{"a.*", ".*b", "a|b", "[^b]+", "ab?", ".*,.*", "a(.+|)", "\ufffd[ab]?"}
)

func pick[T any](w town, from []T) T { return from[w.IntN(len(from))] }

// text takes a word whole or in part.
func (w town) text(words []string) string {
	s := pick(w, words)
	if w.IntN(4) > 0 {
		return s
	}
	from := w.IntN(len(s) + 1)
	return s[from : from+w.IntN(len(s)-from+1)]
}

func (w town) about(words, regexes []string) Pattern {
	var p Pattern
	switch w.IntN(8) {
	case 0, 1, 2:
		p = Exact(pick(w, words))
	case 3, 4:
		p = Prefix(w.text(words))
	case 5:
		p = Suffix(w.text(words))
	case 6:
		p = Contains(w.text(words))
	case 7:
		var err error
		if p, err = Regex(pick(w, regexes)); err != nil {
			panic(err)
		}
	}
	if w.IntN(4) == 0 {
		p = p.IgnoreCase()
	}
	return p
}

func (w town) prefix() netip.Prefix {
	if w.IntN(4) == 0 {
		return netip.PrefixFrom(netip.MustParseAddr("2001:db8::"+fmt.Sprint(w.IntN(4))), 112+w.IntN(17))
	}
	w.vague = false
	return netip.PrefixFrom(w.addr(), []int{0, 8, 16, 24, 30, 31, 32}[w.IntN(7)])
}

func (w town) addr() netip.Addr {
	switch {
	case w.vague && w.IntN(8) == 0:
		return netip.Addr{}
	case w.IntN(6) == 0:
		return netip.MustParseAddr("2001:db8::" + fmt.Sprint(w.IntN(4)))
	case w.IntN(8) == 0:
		return netip.MustParseAddr("::ffff:10.0.0.1")
	}
	return netip.AddrFrom4([4]byte{10, byte(w.IntN(2)), 0, byte(w.IntN(4))})
}

func (w town) leaf() Clause {
	switch w.IntN(14) {
	case 0, 1, 2:
		return &FilterStateIs{PeerPrincipal, w.about(townIdentities, townPrincipals)}
	case 3, 4:
		return &Path{w.about(townPaths, townRegexes)}
	case 5:
		return &Header{Name: ":method", Pattern: Exact(pick(w, townMethods))}
	case 6:
		return &Header{Name: pick(w, []string{":authority", "host", "Host"}), Pattern: w.about(townHosts, townRegexes)}
	case 7:
		return &Header{
			Name: pick(w, []string{"x-a", "x-b", "via"}), Test: HeaderTest(max(0, w.IntN(6)-3)), Pattern: w.about(townLines, townRegexes),
			Present: w.IntN(2) == 0, From: 1, To: 2, Invert: w.IntN(4) == 0, MissingIsEmpty: w.IntN(4) == 0,
			Joined: w.IntN(4) == 0,
		}
	case 8:
		return &IP{Address(w.IntN(4)), w.prefix()}
	case 9:
		from := uint32(80 + w.IntN(3))
		return &DestinationPort{from, from + uint32(w.IntN(3))}
	case 10:
		t, err := ParseTemplate(pick(w, townTemplates))
		if err != nil {
			panic(err)
		}
		return &URITemplate{t}
	case 11:
		p := w.about(townIdentities, townPrincipals)
		switch w.IntN(3) {
		case 0:
			return &Authenticated{&p}
		case 1:
			return &AddressText{Of: Address(w.IntN(4)), Pattern: Exact(w.addr().String())}
		}
		return &Certificate{Names: CertificateNames(w.IntN(4)), Joined: w.IntN(4) == 0, Pattern: p}
	case 12:
		text := &ValueString{w.about(townLines, townRegexes)}
		test := pick(w, []ValueTest{text, &ValueListHas{text}, ValueAnyOf{text, &ValueListHas{text}}, ValueAnyOf{}, &ValueListHas{&ValueListHas{text}}})
		return &MetadataIs{MetadataSource(w.IntN(2)), "jwt", [][]string{{"iss"}, {"aud"}, {"nested", "claim"}}[w.IntN(3)], test, w.IntN(6) == 0}
	}
	return w.world.clause(1)
}

// choice is one or several clauses of one kind, as istiod writes the values of a field; sometimes so many that they are indexed.
func (w town) choice() Clause {
	n := max(1, w.IntN(5)-1)
	switch w.IntN(24) {
	case 0:
		n = 0
	case 1:
		n = minParts + w.IntN(8)
	}
	var all Or
	for range n {
		all = append(all, w.leaf())
	}
	if w.IntN(24) == 0 {
		return &Not{all}
	}
	return all
}

func (w town) side() []Clause {
	var all []Clause
	for range 1 + w.IntN(6)/5 {
		var parts And
		for range max(1, w.IntN(4)) {
			parts = append(parts, w.choice())
		}
		all = append(all, parts)
	}
	return all
}

func (w town) rules() []Rule {
	var all []Rule
	for i := range w.IntN(8 * minPolicies) {
		all = append(all, Rule{Action(w.IntN(3)), Policy{fmt.Sprint("p", i), w.side(), w.side()}})
	}
	return all
}

func (w town) lines() []string {
	var all []string
	for range max(0, w.IntN(6)-2) {
		all = append(all, pick(w, townLines))
	}
	return all
}

func (w town) request() *Request {
	claims, err := structpb.NewStruct(map[string]any{
		"iss": strings.ToValidUTF8(pick(w, townLines), "?"), "aud": []any{"a", "b", []any{"ab"}, 1}, "nested": map[string]any{"claim": "ab"},
	})
	if err != nil {
		panic(err)
	}
	if w.IntN(3) == 0 {
		delete(claims.Fields, "iss")
	}
	r := &Request{
		HTTP: w.IntN(12) > 0, Method: pick(w, townMethods), Path: w.nearly(pick(w, townPaths)), Authority: w.nearly(pick(w, townHosts)),
		Headers:     mapHeaders{"x-a": w.lines(), "x-b": w.lines(), "via": w.lines()},
		FilterState: mapState{PeerPrincipal: w.nearly(pick(w, townIdentities)), "a": w.word(), "b": "10.0.0.1"},
		Metadata:    oneMetadata{claims},
		ServerName:  pick(w, townHosts), SourceIP: w.addr(), DirectRemoteIP: w.addr(), RemoteIP: w.addr(),
		Destination: netip.AddrPortFrom(w.addr(), uint16(79+w.IntN(4))),
	}
	if w.IntN(2) == 0 {
		r.Peer = &Peer{URISANs: []string{pick(w, townIdentities), pick(w, townIdentities)}, Subject: w.word()}
	}
	if w.IntN(8) == 0 {
		r.FilterState = nil
	}
	return r
}

// nearly misses a constant by one character, at times.
func (w town) nearly(s string) string {
	at := w.IntN(len(s) + 1)
	switch w.IntN(6) {
	case 0:
		return s[:at] + pick(w, []string{"a", "/", ".", "\n", "\xff", "\ufffd", "?x"}) + s[at:]
	case 1:
		return s[:at] + s[min(len(s), at+1):]
	}
	return s
}

// sets compiles rules in all the ways that there are.
func sets(rules []Rule) []*PolicySet {
	var policies []Policy
	for _, r := range rules {
		policies = append(policies, r.Policy)
	}
	ordered, err := CompileOrdered(rules)
	if err != nil {
		panic(err)
	}
	return []*PolicySet{compiled(Allow, policies...), compiled(Deny, policies...), compiled(Log, policies...), ordered}
}

func decidePlainly(s *PolicySet, r *Request) Decision {
	e := s.evaluate(r)
	if at := s.firstOf(&e); at < len(s.policies) {
		return s.policies[at].onMatch
	}
	return s.onMiss
}

// differs says how the index differs from the plain evaluator, "" if it does not.
func differs(s *PolicySet, r *Request) string {
	if got, want := s.Decide(r), decidePlainly(s, r); got != want {
		return fmt.Sprintf("of %d policies the index says %+v, the plain evaluator %+v; of\n%+v", len(s.policies), got, want, r)
	}
	return ""
}

func TestIndexedIsPlain(t *testing.T) {
	indexed, matched, all := 0, 0, 0
	for seed := range uint64(1_000) {
		w := town{world{Rand: rand.New(rand.NewPCG(seed, 2)), repeat: true, vague: true}}
		built := sets(w.rules())
		for range 25 {
			r := w.request()
			for _, s := range built {
				if problem := differs(s, r); problem != "" {
					t.Fatalf("seed %d: %s", seed, problem)
				}
				all++
				if s.index != nil {
					indexed++
				}
				if s.Decide(r).Policy != "" {
					matched++
				}
			}
		}
	}
	// The test is worth something only if indexes are there, and things match, and do not.
	if t.Logf("%d rounds, %d by an index, %d matched", all, indexed, matched); indexed < all/2 || matched < all/4 || matched > all*9/10 {
		t.Errorf("%d of %d rounds are by an index, %d matched", indexed, all, matched)
	}
}

// Texts longer than what is folded on the stack are looked up too, and so are values.
func TestLongTextsInAnyCase(t *testing.T) {
	long := strings.Repeat("a.B", maxFolded)
	var policies []Policy
	for i, text := range []string{long, long[1:], long + "c", long[:maxFolded], long[:maxFolded-1], long[:maxFolded+1], "x"} {
		policies = append(policies, Policy{fmt.Sprint("p", i), []Clause{&Header{Name: "host", Pattern: Exact(text).IgnoreCase()}}, []Clause{Always{}}})
	}
	s := compiled(Allow, policies...)
	for i, p := range policies {
		host := strings.ToUpper(p.Permissions[0].(*Header).Pattern.text)
		for _, host := range []string{host, host + "d", host[1:], host[:len(host)-1]} {
			if problem := differs(s, &Request{HTTP: true, Authority: host}); problem != "" {
				t.Error(problem)
			}
		}
		if d := s.Decide(&Request{HTTP: true, Authority: host}); d.Policy != p.Name {
			t.Errorf("policy %d: decided by %q", i, d.Policy)
		}
	}
}

// Policies about more attributes than are looked up are still found, and in their order.
func TestManyAttributes(t *testing.T) {
	var policies []Policy
	headers := mapHeaders{}
	for i := range 3 * maxAttributes {
		name := fmt.Sprintf("x-%03d", i)
		for value := range 1 + i%3 {
			policies = append(policies, Policy{
				fmt.Sprintf("p%03d-%d", i, value), []Clause{&Header{Name: name, Pattern: Exact(fmt.Sprint(value))}}, []Clause{Always{}},
			})
		}
		headers[name] = []string{"9"}
	}
	s := compiled(Allow, policies...)
	if len(s.attributes) != maxAttributes {
		t.Errorf("%d attributes are looked up", len(s.attributes))
	}
	for _, p := range policies {
		h := p.Permissions[0].(*Header)
		headers[h.Name] = []string{h.Pattern.text}
		r := &Request{HTTP: true, Headers: headers}
		if d := s.Decide(r); d.Policy != p.Name {
			t.Errorf("decided by %q, not %q", d.Policy, p.Name)
		}
		if problem := differs(s, r); problem != "" {
			t.Error(problem)
		}
		headers[h.Name] = []string{"9"}
	}
}

// choices is randomness that a fuzzer steers: its bytes first, then a sequence that they begin.
type choices struct {
	bytes []byte
	rest  *rand.PCG
}

func (c *choices) Uint64() uint64 {
	if len(c.bytes) == 0 {
		return c.rest.Uint64()
	}
	b := c.bytes[0]
	c.bytes = c.bytes[1:]
	// IntN takes high bits.
	return uint64(b)<<56 | uint64(b)<<24
}

func FuzzIndexedIsPlain(f *testing.F) {
	for i, path := range []string{"/a/b", "/", "", "/a?b#c", "/A/\xff", "/" + strings.Repeat("a", 300)} {
		for j, identity := range append(townIdentities, "spiffe://td/ns/a", "spiffe://td/ns/a/sa/x\n", "/ns//ns/a/ns/") {
			f.Add(uint64(i), []byte{byte(j)}, path, identity, []string{"a|b", "a", "", "a,b|a", "b|b|b|a", "\xff|a"}[(i+j)%6])
		}
	}
	f.Fuzz(func(t *testing.T, seed uint64, steer []byte, path, identity, lines string) {
		w := town{world{Rand: rand.New(&choices{steer, rand.NewPCG(seed, 3)}), repeat: true, vague: true}}
		rules := w.rules()
		// What the fuzzer writes stands in a request, and in half of the policies too, whole and cut.
		header := strings.Split(lines, "|")
		for i := range rules {
			var c Clause
			switch i % 6 {
			case 0:
				c = &Path{Pattern{op: patternOp(w.IntN(4)), text: path[:w.IntN(len(path)+1)]}}
			case 1:
				c = &FilterStateIs{PeerPrincipal, Pattern{op: patternOp(w.IntN(4)), text: identity[w.IntN(len(identity)+1):]}}
			case 2:
				c = &Header{Name: "x-a", Pattern: Pattern{op: patternOp(w.IntN(4)), text: pick(w, header)}}
			default:
				continue
			}
			rules[i].Policy.Permissions = append(rules[i].Policy.Permissions, And{c, w.choice()})
		}
		r := w.request()
		r.Path, r.Headers = path, mapHeaders{"x-a": header, "x-b": w.lines()}
		r.FilterState = mapState{PeerPrincipal: identity}
		for _, s := range sets(rules) {
			if problem := differs(s, r); problem != "" {
				t.Error(problem)
			}
			if d, x := s.Decide(r), s.Explain(r); d != x.Decision {
				t.Errorf("Decide says %+v, Explain %+v", d, x.Decision)
			}
		}
	})
}

// The texts that a value begins or ends with are found, all and no others.
func TestPrefixes(t *testing.T) {
	eachRound(t, world{}, func(w world) string {
		town := town{w}
		keys := map[string]entry{}
		for i := range w.IntN(12) {
			keys[town.text(townPaths)] = entry(i)
		}
		v := town.text(townPaths) + town.text(townPaths)
		for _, backward := range []bool{false, true} {
			p := newPrefixes(keys, false, backward)
			var got, want []string
			for i := p.longest(v); i >= 0; i = p.parents[i] {
				got = append(got, p.texts[i])
				if p.entries[i] != keys[p.texts[i]] {
					return fmt.Sprintf("%q leads elsewhere", p.texts[i])
				}
			}
			for text := range keys {
				if p.begins(v, text) {
					want = append(want, text)
				}
			}
			slices.Sort(got)
			if slices.Sort(want); !slices.Equal(got, want) {
				return fmt.Sprintf("%q begins with (backward %v) %q, found %q", v, backward, want, got)
			}
		}
		return ""
	})
}

func TestRanges(t *testing.T) {
	eachRound(t, world{}, func(w world) string {
		town := town{w}
		keys := map[string]entry{}
		for i := range w.IntN(12) {
			keys[rangeText(town.prefix().Masked())] = entry(i)
		}
		tree, addr := newRanges(keys), town.addr().WithZone("")
		found := map[string]bool{}
		for i := tree.smallest(addr); i >= 0; i = tree.parents[i] {
			found[rangeText(tree.prefixes[i])] = true
		}
		for text := range keys {
			if rng := rangeOf(text); rng.Contains(addr) != found[text] {
				return fmt.Sprintf("%v in %v: found %v", addr, rng, found[text])
			}
		}
		return ""
	})
}
