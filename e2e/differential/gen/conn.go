package gen

import (
	"net/netip"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// addresses that policies and connections have in common.
var addresses = parse(
	"127.0.0.1", "127.0.0.2", "127.1.2.3", "127.1.2.4", "127.255.255.254", "::1",
	"10.0.0.1", "10.0.0.2", "10.0.1.1", "10.1.0.1", "192.168.255.255", "0.0.0.0", "255.255.255.255",
	"2001:db8::1", "2001:db8::2", "2001:db8:0:1::", "fe80::1", "::", "::ffff:10.0.0.1", "64:ff9b::a00:1",
)

// loopback are those that a socket of this machine can have.
var loopback = addresses[:6]

var ports = []uint16{80, 8080, 443, 79, 81, 9000, 1, 65535, 0}

// Subjects of client certificates, which the reference issues. The last has no name but its subject.
var Subjects = []authz.Peer{
	{URISANs: []string{words[principal][0]}},
	{URISANs: []string{words[principal][1], words[principal][3]}},
	{URISANs: []string{words[principal][6]}, DNSSANs: []string{"web.example.com"}, Subject: "CN=web,O=shop"},
	{DNSSANs: []string{"web.example.com", "api.example.com"}},
	{Subject: "CN=web,O=shop"},
	{Subject: "CN=api"},
}

func parse(list ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func (w World) port() uint16 { return pick(w, ports) }

// proxied is an address and port as a PROXY header may have it: of one host.
func (w World) proxied(v6 bool) netip.AddrPort {
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	for {
		if a := pick(w, addresses); a.Is6() == v6 && !a.IsUnspecified() && a != broadcast {
			return netip.AddrPortFrom(a, w.port())
		}
	}
}

// Conn makes a connection to a listener, or with nil to the TCP listener.
func (w World) Conn(l *pair.Listener) *pair.Conn {
	c := &pair.Conn{Listener: l}
	if l != nil && l.Pipe {
		return c
	}
	for {
		c.Source, c.Destination = pick(w, loopback), pick(w, loopback)
		if c.Source.Is6() == c.Destination.Is6() {
			break
		}
	}
	switch {
	case l != nil && l.TLS:
		if w.oneIn(6) {
			c.ServerName = ""
		} else {
			c.ServerName = w.serverName()
		}
		if !w.oneIn(4) {
			client := pick(w, Subjects)
			c.Client = &client
		}
	case l == nil || w.oneIn(2):
		v6 := w.oneIn(3)
		c.ProxySource, c.ProxyDestination = w.proxied(v6), w.proxied(v6)
	}
	return c
}

// serverName is a name that a TLS client can send.
func (w World) serverName() string {
	return pick(w, append(words[serverName], "b.example.com", "shop.example.co", "example.com.evil.example", "xample.com"))
}
