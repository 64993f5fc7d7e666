package authz_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/authz"
)

// A shape is a kind of large set: what its policies share and what tells them apart. Most are the worst for some simpler index.
type shape struct {
	name   string
	action authz.Action
	// rule is policy i of n. The one before the last is the only one that matches the request, unless none does.
	rule    func(tb testing.TB, i, n int) (permission, principal authz.Clause)
	request func(n int) *authz.Request
	miss    bool
}

func isGet() authz.Clause {
	return &authz.Header{Name: ":method", Pattern: authz.Exact("GET")}
}

func pathIs(format string, args ...any) authz.Clause {
	return &authz.Path{Pattern: authz.Exact(fmt.Sprintf(format, args...))}
}

func pathBegins(format string, args ...any) authz.Clause {
	return &authz.Path{Pattern: authz.Prefix(fmt.Sprintf(format, args...))}
}

func client(format string, args ...any) authz.Clause {
	return &authz.FilterStateIs{Key: authz.PeerPrincipal, Pattern: authz.Exact("spiffe://cluster.local" + fmt.Sprintf(format, args...))}
}

func clientRegex(tb testing.TB, format string, args ...any) authz.Clause {
	return &authz.FilterStateIs{Key: authz.PeerPrincipal, Pattern: regexOf(tb, fmt.Sprintf(format, args...))}
}

func hostIs(p authz.Pattern) authz.Clause {
	return &authz.Header{Name: ":authority", Pattern: p.IgnoreCase()}
}

func claim(name, value string) authz.Clause {
	test := &authz.ValueString{Pattern: authz.Exact(value)}
	return &authz.MetadataIs{
		Filter: "envoy.filters.http.jwt_authn", Path: []string{"payload", name}, Value: authz.ValueAnyOf{test, &authz.ValueListHas{Element: test}},
	}
}

func asking(path, identity string) *authz.Request {
	return &authz.Request{
		HTTP: true, Method: "GET", Scheme: "http", Path: path, Authority: "shop.example.com:8080", Headers: &headers{},
		FilterState: state("spiffe://cluster.local" + identity),
		SourceIP:    netip.MustParseAddr("10.1.2.3"), DirectRemoteIP: netip.MustParseAddr("10.1.2.3"), RemoteIP: netip.MustParseAddr("10.1.2.3"),
		Destination: netip.MustParseAddrPort("10.96.0.1:8080"),
	}
}

// side is how many of each of two attributes make n pairs.
func side(n int) int {
	s := 1
	for s*s < n {
		s++
	}
	return s
}

func shapes() []shape {
	web := "/ns/shop/sa/web"
	all := []shape{
		{name: "design", rule: func(_ testing.TB, i, _ int) (authz.Clause, authz.Clause) { // method, path, principal
			return authz.And{isGet(), pathBegins("/service%d/", i)}, client("/ns/shop/sa/client%d", i)
		}, request: func(n int) *authz.Request {
			return asking(fmt.Sprintf("/service%d/items?x=1", n-1), fmt.Sprintf("/ns/shop/sa/client%d", n-1))
		}},
		{name: "principals-and-paths", rule: func(_ testing.TB, i, _ int) (authz.Clause, authz.Clause) { // ten paths for each principal
			return pathIs("/service%d/%d", i/10, i%10), client("/ns/shop/sa/client%d", i/10)
		}, request: func(n int) *authz.Request {
			return asking(fmt.Sprintf("/service%d/%d", (n-1)/10, (n-1)%10), fmt.Sprintf("/ns/shop/sa/client%d", (n-1)/10))
		}},
		{name: "one-principal", rule: func(_ testing.TB, i, _ int) (authz.Clause, authz.Clause) {
			return authz.And{isGet(), pathIs("/service/%d", i)}, client("%s", web)
		}, request: func(n int) *authz.Request { return asking(fmt.Sprintf("/service/%d", n-1), web) }},
		{name: "one-path", rule: func(_ testing.TB, i, _ int) (authz.Clause, authz.Clause) {
			return authz.And{isGet(), pathIs("/service")}, client("/ns/shop/sa/client%d", i)
		}, request: func(n int) *authz.Request { return asking("/service", fmt.Sprintf("/ns/shop/sa/client%d", n-1)) }},
		{name: "pairs", rule: func(_ testing.TB, i, n int) (authz.Clause, authz.Clause) { // each of both is shared by many
			return pathIs("/service/%d", i%side(n)), client("/ns/shop/sa/client%d", i/side(n))
		}, request: func(n int) *authz.Request {
			return asking(fmt.Sprintf("/service/%d", (n-1)%side(n)), fmt.Sprintf("/ns/shop/sa/client%d", (n-1)/side(n)))
		}},
		{name: "one-prefix", rule: func(_ testing.TB, i, _ int) (authz.Clause, authz.Clause) {
			return pathBegins("/api/"), client("/ns/shop/sa/client%d", i)
		}, request: func(n int) *authz.Request { return asking("/api/x", fmt.Sprintf("/ns/shop/sa/client%d", n-1)) }},
		{name: "prefixes", rule: func(_ testing.TB, i, _ int) (authz.Clause, authz.Clause) {
			return pathBegins("/service/%d/", i), client("%s", web)
		}, request: func(n int) *authz.Request { return asking(fmt.Sprintf("/service/%d/x", n-1), web) }},
		{name: "suffixes", rule: func(_ testing.TB, i, _ int) (authz.Clause, authz.Clause) {
			return &authz.Path{Pattern: authz.Suffix(fmt.Sprintf("/%d.html", i))}, authz.Always{}
		}, request: func(n int) *authz.Request { return asking(fmt.Sprintf("/a/%d.html", n-1), web) }},
		{name: "namespaces", rule: func(tb testing.TB, i, _ int) (authz.Clause, authz.Clause) {
			return pathBegins("/"), clientRegex(tb, ".*/ns/shop%d/.*", i)
		}, request: func(n int) *authz.Request { return asking("/x", fmt.Sprintf("/ns/shop%d/sa/web", n-1)) }},
		{name: "service-accounts", rule: func(tb testing.TB, i, n int) (authz.Clause, authz.Clause) {
			return pathBegins("/"), clientRegex(tb, "spiffe://.+/ns/shop%d/(.+/|)sa/web%d(/.+)?", i/side(n), i%side(n))
		}, request: func(n int) *authz.Request {
			return asking("/x", fmt.Sprintf("/ns/shop%d/sa/web%d", (n-1)/side(n), (n-1)%side(n)))
		}},
		{name: "trust-domains", rule: func(tb testing.TB, i, _ int) (authz.Clause, authz.Clause) {
			return isGet(), &authz.FilterStateIs{Key: authz.PeerPrincipal, Pattern: authz.Prefix(fmt.Sprintf("spiffe://td%d/", i))}
		}, request: func(n int) *authz.Request {
			r := asking("/x", web)
			r.FilterState = state(fmt.Sprintf("spiffe://td%d/ns/shop/sa/web", n-1))
			return r
		}},
		{name: "hosts", rule: func(_ testing.TB, i, _ int) (authz.Clause, authz.Clause) {
			host := fmt.Sprintf("Shop%d.Example.com", i)
			return authz.Or{hostIs(authz.Exact(host)), hostIs(authz.Prefix(host + ":"))}, client("%s", web)
		}, request: func(n int) *authz.Request {
			r := asking("/x", web)
			r.Authority = fmt.Sprintf("shop%d.example.COM:8080", n-1)
			return r
		}},
		{name: "cidrs", rule: func(_ testing.TB, i, _ int) (authz.Clause, authz.Clause) {
			a := netip.AddrFrom4([4]byte{10, byte(i >> 14), byte(i >> 6), byte(i << 2)})
			return isGet(), &authz.IP{Of: authz.DirectRemoteIP, Range: netip.PrefixFrom(a, 30)}
		}, request: func(n int) *authz.Request {
			r, i := asking("/x", web), n-1
			r.DirectRemoteIP = netip.AddrFrom4([4]byte{10, byte(i >> 14), byte(i >> 6), byte(i<<2) + 1})
			return r
		}},
		{name: "claims", rule: func(_ testing.TB, i, _ int) (authz.Clause, authz.Clause) {
			return isGet(), authz.And{claim("iss", "https://issuer.example.com"), claim("sub", fmt.Sprintf("user%d", i))}
		}, request: func(n int) *authz.Request {
			r := asking("/x", web)
			payload := &structpb.Struct{Fields: map[string]*structpb.Value{
				"iss": structpb.NewStringValue("https://issuer.example.com"), "sub": structpb.NewStringValue(fmt.Sprintf("user%d", n-1)),
			}}
			r.Metadata = claims{&structpb.Struct{Fields: map[string]*structpb.Value{"payload": structpb.NewStructValue(payload)}}}
			return r
		}},
		{name: "headers", rule: func(_ testing.TB, i, _ int) (authz.Clause, authz.Clause) {
			return isGet(), &authz.Header{Name: "x-user", Pattern: authz.Exact(fmt.Sprintf("user%d", i))}
		}, request: func(n int) *authz.Request {
			r := asking("/x", web)
			r.Headers = &headers{"x-user", []string{fmt.Sprintf("user%d", n-1)}}
			return r
		}},
		{name: "repeated-header", action: authz.Deny, rule: func(_ testing.TB, i, _ int) (authz.Clause, authz.Clause) {
			return isGet(), &authz.Header{Name: "x-user", Pattern: authz.Exact(fmt.Sprintf("user%d", i))}
		}, request: func(n int) *authz.Request {
			r := asking("/x", web)
			r.Headers = &headers{"x-user", append(strings.Split(strings.Repeat("x", 20), ""), fmt.Sprintf("user%d", n-1))}
			return r
		}},
		{name: "repeated-header-elsewhere", action: authz.Deny, rule: func(_ testing.TB, i, _ int) (authz.Clause, authz.Clause) { // about another attribute
			if i == 0 {
				return isGet(), &authz.Header{Name: "x-user", Pattern: authz.Exact("root")}
			}
			return pathIs("/service/%d", i), client("%s", web)
		}, request: func(n int) *authz.Request {
			r := asking(fmt.Sprintf("/service/%d", n-1), web)
			r.Headers = &headers{"x-user", strings.Split(strings.Repeat("x", 20), "")}
			return r
		}},
		{name: "many-values", rule: func(_ testing.TB, i, n int) (authz.Clause, authz.Clause) { // the same hundred principals everywhere
			var or authz.Or
			for j := range min(n, 100) {
				or = append(or, client("/ns/shop/sa/client%d", j))
			}
			return pathIs("/service/%d", i), or
		}, request: func(n int) *authz.Request {
			return asking(fmt.Sprintf("/service/%d", n-1), fmt.Sprintf("/ns/shop/sa/client%d", min(n, 100)-1))
		}},
	}
	for _, base := range []string{"design", "principals-and-paths", "pairs", "namespaces"} {
		for _, s := range all {
			if s.name == base {
				s.name, s.action, s.miss = base+"-deny-miss", authz.Deny, true
				hit := s.request
				s.request = func(n int) *authz.Request {
					r := hit(n)
					r.Path += "-not"
					r.FilterState = state("spiffe://cluster.local/ns/elsewhere/sa/web")
					return r
				}
				all = append(all, s)
			}
		}
	}
	return all
}

// policies are n policies of the shape, in the order of their names.
func (s *shape) policies(tb testing.TB, n int) []authz.Policy {
	all := make([]authz.Policy, n)
	for i := range all {
		permission, principal := s.rule(tb, i, n)
		all[i] = authz.Policy{
			Name:        fmt.Sprintf("ns[shop]-policy[p%06d]-rule[0]", i),
			Permissions: []authz.Clause{permission}, Principals: []authz.Clause{principal},
		}
	}
	return all
}

// asked counts what a decision asks of a request's interfaces.
type asked struct {
	r *authz.Request
	n int
}

func counting(r *authz.Request) (*authz.Request, *asked) {
	a := &asked{r: r}
	counted := *r
	counted.Headers, counted.FilterState = a, a
	if r.Metadata != nil {
		counted.Metadata = a
	}
	return &counted, a
}

func (a *asked) Header(name string, i int) (string, bool) { a.n++; return a.r.Headers.Header(name, i) }
func (a *asked) FilterState(key string) (string, bool) {
	a.n++
	return a.r.FilterState.FilterState(key)
}
func (a *asked) Metadata(from authz.MetadataSource, filter string) *structpb.Struct {
	a.n++
	return a.r.Metadata.Metadata(from, filter)
}

// However many policies there are, and whatever they share, a decision tries a few of them. This counts work; the time that it
// takes is for benchmarks.
func TestFewPoliciesAreTried(t *testing.T) {
	const n = 2_000
	for _, s := range shapes() {
		set := mustCompile(t, s.action, s.policies(t, n)...)
		r := s.request(n)
		want := fmt.Sprintf("ns[shop]-policy[p%06d]-rule[0]", n-1)
		if s.miss {
			want = ""
		}
		if d := set.Decide(r); d.Policy != want {
			t.Errorf("%s: decided by %q, want %q", s.name, d.Policy, want)
		}
		counted, a := counting(r)
		set.Decide(counted)
		// A few attributes, each fetched once, and a few policies that ask for theirs. A header of 21 lines is read some times over.
		limit := 10
		if strings.HasPrefix(s.name, "repeated-header") {
			limit = 200
		}
		if a.n > limit {
			t.Errorf("%s: of %d policies so many were tried that they asked %d times for values, more than %d", s.name, n, a.n, limit)
		}
		if n := testing.AllocsPerRun(20, func() { set.Decide(r) }); n != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", s.name, n)
		}
	}
}

// One index serves many goroutines, and what they keep for the next request is not mixed up; run with -race.
func TestLookUpConcurrently(t *testing.T) {
	const n = 200
	for _, s := range shapes() {
		set, r := mustCompile(t, s.action, s.policies(t, n)...), s.request(n)
		want := set.Decide(r)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					if d := set.Decide(r); d != want {
						t.Errorf("%s: %+v, and then %+v", s.name, want, d)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func BenchmarkShapes(b *testing.B) {
	for _, s := range shapes() {
		for _, n := range []int{1, 100, 10_000, 100_000} {
			if s.name == "many-values" && n > 10_000 {
				continue // ten million clauses
			}
			var set *authz.PolicySet
			b.Run(fmt.Sprintf("%s/%d", s.name, n), func(b *testing.B) {
				if set == nil {
					set = mustCompile(b, s.action, s.policies(b, n)...)
				}
				r := s.request(n)
				b.ReportAllocs()
				for b.Loop() {
					set.Decide(r)
				}
			})
		}
	}
}

// BenchmarkManyAlternatives is one policy with an Or of 10,000: the last of them matches, or none does.
func BenchmarkManyAlternatives(b *testing.B) {
	const n = 10_000
	for _, name := range []string{"one-path", "prefixes", "hosts", "cidrs", "namespaces"} {
		for _, s := range shapes() {
			if s.name != name {
				continue
			}
			var permissions, principals authz.Or
			for i := range n {
				permission, principal := s.rule(b, i, n)
				permissions, principals = append(permissions, permission), append(principals, principal)
			}
			set := mustCompile(b, authz.Allow, authz.Policy{Name: "p", Permissions: permissions, Principals: principals})
			miss := *s.request(n)
			miss.Path, miss.Authority, miss.DirectRemoteIP = "/x", "x", netip.MustParseAddr("192.0.2.1")
			miss.FilterState = state("spiffe://cluster.local/ns/elsewhere/sa/x")
			for what, r := range map[string]*authz.Request{"last": s.request(n), "none": &miss} {
				if d := set.Decide(r); d.Allowed != (what == "last") {
					b.Fatalf("%s, %s: %+v", s.name, what, d)
				}
				b.Run(s.name+"/"+what, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						set.Decide(r)
					}
				})
			}
		}
	}
}

// BenchmarkMemory reports what a set of 100,000 policies takes per policy, and how much of it is the index.
func BenchmarkMemory(b *testing.B) {
	const n = 100_000
	for _, s := range shapes() {
		if s.miss || s.name == "many-values" {
			continue
		}
		b.Run(s.name, func(b *testing.B) {
			for b.Loop() {
				policies := s.policies(b, n)
				before := heap()
				set := mustCompile(b, s.action, policies...)
				whole := heap() - before
				authz.DropIndex(set)
				plain := heap() - before
				b.ReportMetric(float64(whole)/n, "B/policy")
				b.ReportMetric(float64(whole-plain)/n, "index-B/policy")
				runtime.KeepAlive(policies)
				runtime.KeepAlive(set)
			}
		})
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
