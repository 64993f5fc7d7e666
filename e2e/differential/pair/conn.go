package pair

import (
	"fmt"
	"net/netip"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
)

// Listener is the settings of a listener's HTTP connection manager that decide how its filters see a request.
type Listener struct {
	Name string
	Mode pathnorm.Options // Istio's pathNormalization
	// TrustedHops is xff_num_trusted_hops.
	TrustedHops int
	// UseRemoteAddress is use_remote_address: the peer is the client, but for trusted hops.
	UseRemoteAddress bool
	TLS              bool
	// Pipe is a Unix socket: then no address of the connection is known.
	Pipe bool
}

// Listeners are the HTTP listeners of the reference. Istio's waypoints have BASE and trust nobody (use_remote_address is
// false there, which in Envoy means that x-forwarded-for is believed).
var Listeners = []Listener{
	{Name: "none", Mode: pathnorm.None},
	{Name: "base", Mode: pathnorm.Base},
	{Name: "merge", Mode: pathnorm.MergeSlashes, UseRemoteAddress: true},
	{Name: "decode", Mode: pathnorm.DecodeAndMergeSlashes, UseRemoteAddress: true, TrustedHops: 1},
	{Name: "hops", Mode: pathnorm.Base, TrustedHops: 1},
	{Name: "tls", Mode: pathnorm.Base, TLS: true},
	{Name: "pipe", Mode: pathnorm.Base, UseRemoteAddress: true, Pipe: true},
}

// Conn is a connection to one of the Listeners, or to the TCP listener.
type Conn struct {
	Listener *Listener // nil: TCP
	// Source and Destination are the addresses of the socket, on the loopback; the destination's port is the listener's. A Unix
	// socket has none.
	Source, Destination netip.Addr
	// ProxySource and ProxyDestination are what a PROXY header (version 2) says, both or neither.
	ProxySource, ProxyDestination netip.AddrPort
	// ServerName and Client are for TLS. A nil Client is one without a certificate.
	ServerName string
	Client     *authz.Peer
}

// Proxied reports whether the connection begins with a PROXY header.
func (c *Conn) Proxied() bool { return c.ProxySource.IsValid() }

func (c *Conn) String() string {
	name := "tcp"
	if c.Listener != nil {
		name = c.Listener.Name
	}
	s := fmt.Sprintf("listener %s from %v to %v", name, c.Source, c.Destination)
	if c.Proxied() {
		s += fmt.Sprintf(", PROXY from %v to %v", c.ProxySource, c.ProxyDestination)
	}
	if c.ServerName != "" || c.Client != nil {
		s += fmt.Sprintf(", TLS for %q by %+v", c.ServerName, c.Client)
	}
	return s
}

// peer is the address that the connection's remote end has for Envoy.
func (c *Conn) peer() netip.Addr {
	if c.Proxied() {
		return c.ProxySource.Addr()
	}
	return c.Source
}

// destination is the local address that Envoy sees. listenPort is the listener's.
func (c *Conn) destination(listenPort uint16) netip.AddrPort {
	if c.Proxied() {
		return c.ProxyDestination
	}
	return netip.AddrPortFrom(c.Destination, listenPort)
}
