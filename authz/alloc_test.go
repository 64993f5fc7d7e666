//go:build !race

package authz_test

import (
	"net/netip"
	"testing"

	"github.com/gowaypoint/gowaypoint/authz"
)

// The race detector makes sync.Pool drop buffers on purpose, hence the build constraint.
func TestDecideDoesNotAllocate(t *testing.T) {
	all := everythingRequest(t)
	for name, c := range map[string]struct {
		set  *authz.PolicySet
		r    *authz.Request
		want string
	}{
		"get only":   {getOnly(t), request, "ns[default]-policy[allow-get]-rule[0]"},
		"many":       {many(t, 10), request, "ns[shop]-policy[p00009]-rule[0]"},
		"everything": {everything(t), all, "all"},
	} {
		if d := c.set.Decide(c.r); d.Policy != c.want {
			t.Errorf("%s: %+v\n%s", name, d, c.set.Explain(c.r))
		}
		if n := testing.AllocsPerRun(100, func() { c.set.Decide(c.r) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// The parts of a certificate do not allocate either.
func TestCertificateDoesNotAllocate(t *testing.T) {
	clauses := []authz.Clause{
		&authz.Certificate{Names: authz.URINames, Joined: true, Pattern: authz.Exact("a,b")},
		&authz.Certificate{Names: authz.Subject, Pattern: authz.Exact("CN=x")},
		&authz.Certificate{Names: authz.DNSNames, Host: "A.example.com"},
		&authz.Certificate{Names: authz.AnyName},
		&authz.AddressText{Of: authz.SourceIP, Pattern: authz.Prefix("10.")},
		&authz.AddressText{Of: authz.DestinationIP, Port: true, Pattern: authz.Exact("80")},
	}
	set, err := authz.Compile(authz.Allow, []authz.Policy{{"all", []authz.Clause{authz.And(clauses)}, []authz.Clause{authz.Always{}}}})
	if err != nil {
		t.Fatal(err)
	}
	r := &authz.Request{
		SourceIP: netip.MustParseAddr("10.1.1.1"), Destination: netip.MustParseAddrPort("10.2.2.2:80"),
		Peer: &authz.Peer{URISANs: []string{"a", "b"}, DNSSANs: []string{"*.EXAMPLE.com"}, Subject: "CN=x"},
	}
	if d := set.Decide(r); !d.Allowed {
		t.Fatal(set.Explain(r))
	}
	if n := testing.AllocsPerRun(100, func() { set.Decide(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
