package authz_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/authz"
)

// state is filter state with the identity of the client.
type state string

func (s state) FilterState(key string) (string, bool) { return string(s), key == authz.PeerPrincipal }

// headers holds one header, perhaps on several lines.
type headers struct {
	name   string
	values []string
}

func (h *headers) Header(name string, i int) (string, bool) {
	if name != h.name || i >= len(h.values) {
		return "", false
	}
	return h.values[i], true
}

type claims struct{ s *structpb.Struct }

func (c claims) Metadata(authz.MetadataSource, string) *structpb.Struct { return c.s }

func mustCompile(tb testing.TB, action authz.Action, policies ...authz.Policy) *authz.PolicySet {
	tb.Helper()
	s, err := authz.Compile(action, policies)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// getOnly is what istiod sends for a policy that allows GET.
func getOnly(tb testing.TB) *authz.PolicySet {
	return mustCompile(tb, authz.Allow, authz.Policy{
		Name:        "ns[default]-policy[allow-get]-rule[0]",
		Permissions: []authz.Clause{authz.And{authz.Or{&authz.Header{Name: ":method", Pattern: authz.Exact("GET")}}}},
		Principals:  []authz.Clause{authz.And{authz.Always{}}},
	})
}

// many is n policies by method, path and principal, of which the last matches request.
func many(tb testing.TB, n int) *authz.PolicySet {
	var policies []authz.Policy
	for i := range n {
		policies = append(policies, authz.Policy{
			Name: fmt.Sprintf("ns[shop]-policy[p%05d]-rule[0]", i),
			Permissions: []authz.Clause{authz.And{
				authz.Or{&authz.Header{Name: ":method", Pattern: authz.Exact("GET")}},
				authz.Or{&authz.Path{Pattern: authz.Prefix(fmt.Sprintf("/service%d/", n-1-i))}},
			}},
			Principals: []authz.Clause{authz.And{authz.Or{&authz.FilterStateIs{
				Key: authz.PeerPrincipal, Pattern: authz.Exact(fmt.Sprintf("spiffe://cluster.local/ns/shop/sa/client%d", n-1-i)),
			}}}},
		})
	}
	return mustCompile(tb, authz.Allow, policies...)
}

var request = &authz.Request{
	HTTP: true, Method: "GET", Path: "/service0/item?id=1", Authority: "shop:8080",
	FilterState:    state("spiffe://cluster.local/ns/shop/sa/client0"),
	DirectRemoteIP: netip.MustParseAddr("10.1.2.3"), Destination: netip.MustParseAddrPort("10.96.0.7:8080"),
}

func regexOf(tb testing.TB, expr string) authz.Pattern {
	p, err := authz.Regex(expr)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// everything holds one clause of each kind, none of which decides before the others are evaluated.
func everything(tb testing.TB) *authz.PolicySet {
	template, err := authz.ParseTemplate("/service0/*")
	if err != nil {
		tb.Fatal(err)
	}
	suffix := authz.Suffix("/x")
	return mustCompile(tb, authz.Deny, authz.Policy{Name: "all", Permissions: []authz.Clause{authz.And{
		&authz.URITemplate{Template: template},
		&authz.Path{Pattern: authz.Contains("ITEM").IgnoreCase()},
		&authz.IP{Of: authz.DirectRemoteIP, Range: netip.MustParsePrefix("10.0.0.0/8")},
		&authz.DestinationPort{From: 8080, To: 8081},
		&authz.ServerName{Pattern: authz.Exact("")},
		&authz.FilterStateIs{Key: authz.PeerPrincipal, Pattern: regexOf(tb, "spiffe://.+/ns/shop/(.+/|)sa/client0(/.+)?")},
		&authz.FilterStateIs{Key: authz.PeerPrincipal, Pattern: regexOf(tb, "spiffe://[^/]*/.*")},
		&authz.Not{Clause: &authz.Authenticated{Pattern: &suffix}},
		&authz.Not{Clause: &authz.FilterStateIP{Key: "k", Ranges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
		&authz.Not{Clause: &authz.Header{Name: "x-n", Test: authz.HeaderInRange, From: 1, To: 2}},
		&authz.Header{Name: "x-role", Pattern: authz.Exact("guest,admin")},
		&authz.MetadataIs{Filter: "f", Path: []string{"iss"}, Value: &authz.ValueString{Pattern: authz.Exact("i")}},
	}}, Principals: []authz.Clause{authz.Always{}}})
}

func everythingRequest(tb testing.TB) *authz.Request {
	s, err := structpb.NewStruct(map[string]any{"iss": "i"})
	if err != nil {
		tb.Fatal(err)
	}
	r := *request
	r.Headers = &headers{"x-role", []string{"guest", "admin"}}
	r.Metadata = claims{s}
	r.Peer = &authz.Peer{URISANs: []string{"spiffe://a"}}
	return &r
}

// One set is asked by many goroutines at once; run with -race.
func TestDecideConcurrently(t *testing.T) {
	s, r := everything(t), everythingRequest(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if d := s.Decide(r); d.Allowed {
					t.Error("allowed")
					return
				}
				if x := s.Explain(r); x.Decision.Allowed {
					t.Error("explained as allowed")
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkDecide(b *testing.B) {
	for name, c := range map[string]struct {
		set *authz.PolicySet
		r   *authz.Request
	}{
		"get-only":       {getOnly(b), request},
		"policies-1":     {many(b, 1), request},
		"policies-100":   {many(b, 100), request},
		"policies-10000": {many(b, 10_000), request},
		"everything":     {everything(b), everythingRequest(b)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.set.Decide(c.r)
			}
		})
	}
}

func BenchmarkPrincipalRegex(b *testing.B) {
	v := "spiffe://cluster.local/ns/shop/sa/client"
	for _, expr := range []string{".*/ns/shop/.*", "spiffe://.+/ns/shop/(.+/|)sa/client(/.+)?", "spiffe://[^/]*/ns/shop/.*"} {
		p := regexOf(b, expr)
		b.Run(expr, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.Match(v) {
					b.Fatal("no match")
				}
			}
		})
	}
}
