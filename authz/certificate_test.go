package authz

import (
	"net/netip"
	"testing"
)

// A name of a certificate may hold one wildcard, in its first label, which stands for any part of that label.
func TestHostHasName(t *testing.T) {
	for _, c := range []struct {
		host, name string
		want       bool
	}{
		{"a.example.com", "a.example.com", true},
		{"a.example.com", "A.Example.COM", true},
		{"a.example.com", "*.example.com", true},
		{"a.example.com", "*.EXAMPLE.com", true},
		{"abc.example.com", "a*.example.com", true},
		{"abc.example.com", "*c.example.com", true},
		{"abc.example.com", "a*c.example.com", true},
		{"abc.example.com", "abc*.example.com", true},
		{"abc.example.com", "abc*c.example.com", false}, // the two parts may not share a letter
		{"abc.example.com", "a*b.example.com", false},
		{"abc.example.com", "*b*.example.com", false},
		{"a.b.example.com", "*.example.com", false},
		{"a.example.com", "a.*.com", false},
		{"example.com", "*.example.com", false},
		{"com", "*", false},
		{"xn--a.example.com", "xn--*.example.com", false},
		{"", "", true},
	} {
		if got := hostHasName(c.host, c.name); got != c.want {
			t.Errorf("host %q, name %q: %v", c.host, c.name, got)
		}
	}
}

func TestAddressIn(t *testing.T) {
	four, six := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0")
	for _, c := range []struct {
		v                   string
		rng                 netip.Prefix
		certainly, possibly bool
	}{
		{"10.1.2.3", four, true, true},
		{"11.1.2.3", four, false, false},
		{"10.1.2.3", six, false, false},
		{"2001:db8::1", six, true, true},
		{"fe80::1%eth0", six, true, true},
		{"::ffff:10.0.0.1", four, false, true},
		{"::ffff:10.0.0.1", six, true, true},
		{"::ffff:11.0.0.1", four, false, false},
		{"10.1.2.3:80", four, false, false},
		{"", four, false, false},
	} {
		p := AddressIn(c.rng)
		if p.match(c.v, certainly) != c.certainly || p.match(c.v, possibly) != c.possibly {
			t.Errorf("%q in %v: certainly %v, possibly %v", c.v, c.rng, p.match(c.v, certainly), p.match(c.v, possibly))
		}
	}
}

// An IPv4 address in IPv6 form has two readings, wherever it is asked about: as it is written, which is Envoy's, and as IPv4.
func TestMappedAddress(t *testing.T) {
	mapped := netip.MustParseAddr("::ffff:10.0.0.1")
	four := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	other := []netip.Prefix{netip.MustParsePrefix("11.0.0.0/8")}
	r := &Request{RemoteIP: mapped, FilterState: mapState{"a": mapped.String(), "with port": "[::ffff:10.0.0.1]:80"}}
	for _, c := range []struct {
		what                string
		clause              Clause
		certainly, possibly bool
	}{
		{"in the range", &IP{RemoteIP, four[0]}, false, true},
		{"in all of IPv6", &IP{RemoteIP, netip.MustParsePrefix("::/0")}, true, true},
		{"filter state, in the range", &FilterStateIP{"a", four, false}, false, true},
		{"filter state, not in the range", &FilterStateIP{"a", four, true}, false, true},
		{"filter state, with its port", &FilterStateIP{"with port", four, true}, false, true},
		{"filter state, not in another", &FilterStateIP{"a", other, true}, true, true},
		{"text as IPv4", &AddressText{Of: RemoteIP, Pattern: Prefix("10.")}, false, true},
		{"text as written", &AddressText{Of: RemoteIP, Pattern: Exact("::ffff:10.0.0.1")}, true, true},
		{"other text", &AddressText{Of: RemoteIP, Pattern: Prefix("11.")}, false, false},
	} {
		e := evaluationOf(r)
		if e.holds(c.clause, certainly) != c.certainly || e.holds(c.clause, possibly) != c.possibly {
			t.Errorf("%s: certainly %v, possibly %v", c.what, e.holds(c.clause, certainly), e.holds(c.clause, possibly))
		}
	}
}

// What a log rule of an ordered set lets pass, it lets pass like an allow: on certainty.
func TestOrderedLogNeedsCertainty(t *testing.T) {
	unknown := &IP{Of: SourceIP, Range: netip.MustParsePrefix("10.0.0.0/8")}
	set, err := CompileOrdered([]Rule{{Log, Policy{"log", []Clause{unknown}, []Clause{Always{}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if d := set.Decide(&Request{}); d.Allowed {
		t.Errorf("an address that is not known was let pass: %+v", d)
	}
	if d := set.Decide(&Request{SourceIP: netip.MustParseAddr("10.1.1.1")}); !d.Allowed || d.Policy != "log" {
		t.Errorf("%+v", d)
	}
}
