package program

import (
	"net/netip"
	"testing"
)

func leaf(name string) *ProtocolMatch { return &ProtocolMatch{Chain: &Chain{Name: name}} }

// Longest prefix wins, of equal ones the first; an address in several families is one.
func TestRanges(t *testing.T) {
	r := NewRanges()
	for _, e := range []struct{ prefix, name string }{
		{"10.0.0.0/8", "eight"}, {"10.1.0.0/16", "sixteen"}, {"10.1.2.3/32", "single"}, {"10.1.2.3/32", "too late"},
		{"::ffff:10.9.9.9/128", "mapped"}, {"fd00::/8", "six"}, {"10.1.77.1/16", "too late"},
	} {
		r.Add(netip.MustParsePrefix(e.prefix), &PortMatch{Any: leaf(e.name)})
	}
	for addr, want := range map[string]string{
		"10.1.2.3": "single", "10.1.2.4": "sixteen", "10.2.0.1": "eight", "fd12::1": "six", "10.9.9.9": "mapped",
	} {
		m := r.Lookup(netip.MustParseAddr(addr))
		if m == nil || m.Any.Chain.Name != want {
			t.Errorf("%s: %+v, want %s", addr, m, want)
		}
	}
	if m := r.Lookup(netip.MustParseAddr("192.0.2.1")); m != nil {
		t.Errorf("nobody has it: %+v", m)
	}
	var none *Ranges
	if none.Lookup(netip.MustParseAddr("10.0.0.1")) != nil {
		t.Error("no table matches nothing")
	}
}

// An address's ports are looked up exactly; a leaf may depend on what was sniffed.
func TestDispatch(t *testing.T) {
	d := &Dispatch{Ranges: NewRanges(), HTTPInspector: true, HTTPInspectorDisabled: PortSet{{80, 81}, {443, 444}}}
	sniffed := &ProtocolMatch{HTTP11: &Chain{Name: "http"}, H2C: &Chain{Name: "http"}, Else: &Chain{Name: "tcp"}}
	d.Ranges.Add(netip.MustParsePrefix("10.96.0.1/32"), &PortMatch{Ports: map[uint16]*ProtocolMatch{80: leaf("web"), 7000: sniffed}})
	d.Authorities = map[string]*PortMatch{"svc.test:80": {Any: leaf("by name")}}
	for _, c := range []struct {
		authority, local string
		protocol         Sniffed
		want             string
	}{
		{"10.96.0.1:80", "10.96.0.1:80", NotSniffed, "web"},
		{"10.96.0.1:7000", "10.96.0.1:7000", HTTP11, "http"},
		{"10.96.0.1:7000", "10.96.0.1:7000", H2C, "http"},
		{"10.96.0.1:7000", "10.96.0.1:7000", HTTP10, "tcp"},
		{"10.96.0.1:7000", "10.96.0.1:7000", Unknown, "tcp"},
		{"svc.test:80", "10.96.0.1:80", NotSniffed, "by name"},
		{"10.96.0.1:81", "10.96.0.1:81", NotSniffed, ""},
		{"10.96.0.2:80", "10.96.0.2:80", NotSniffed, ""},
	} {
		got := ""
		if m := d.Lookup(c.authority, netip.MustParseAddrPort(c.local)); m != nil {
			if chain := m.ForProtocol(c.protocol); chain != nil {
				got = chain.Name
			}
		}
		if got != c.want {
			t.Errorf("%s %s %d: %q, want %q", c.authority, c.local, c.protocol, got, c.want)
		}
	}
	if d.Lookup("svc.other:80", netip.AddrPort{}) != nil {
		t.Error("a name that nobody has, and no address")
	}
	for port, want := range map[uint16]bool{79: true, 80: false, 81: true, 443: false, 444: true} {
		if d.Inspects(port) != want {
			t.Errorf("port %d: inspected %v", port, !want)
		}
	}
}
