package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/program"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
)

type addrPort = netip.AddrPort

func withPort(a addrPort, port uint16) addrPort {
	if port == 0 {
		return a
	}
	return netip.AddrPortFrom(a.Addr(), port)
}

func dial(a addrPort) []program.Hop { return []program.Hop{{Dial: a.String()}} }

// endpoints fills c with the endpoints of an assignment, by priority.
func (b *clusterBase) endpoints(c *program.Cluster, cla *endpointv3.ClusterLoadAssignment, g *graph) {
	seen := map[string]bool{}
	total := 0
	for _, loc := range cla.GetEndpoints() {
		total += len(loc.GetLbEndpoints())
	}
	c.Endpoints = make([]*program.Endpoint, 0, total)
	for _, loc := range cla.GetEndpoints() {
		for _, lb := range loc.GetLbEndpoints() {
			ep := b.endpoint(loc, lb)
			if seen[ep.Key] {
				continue // Envoy: the first of two equal addresses counts
			}
			seen[ep.Key] = true
			b.reach(c, ep, lb, g, total == 1)
		}
	}
	slices.SortStableFunc(c.Endpoints, func(x, y *program.Endpoint) int { return cmp.Compare(x.Priority, y.Priority) })
}

// endpoint maps everything but the way to the endpoint.
func (b *clusterBase) endpoint(loc *endpointv3.LocalityLbEndpoints, lb *endpointv3.LbEndpoint) *program.Endpoint {
	addr := lb.GetEndpoint().GetAddress()
	ep := &program.Endpoint{
		Health:   health(lb.GetHealthStatus()),
		Weight:   max(1, uint32or(lb.GetLoadBalancingWeight(), 1)),
		Priority: loc.GetPriority(),
		Locality: program.Locality{
			Region: loc.GetLocality().GetRegion(), Zone: loc.GetLocality().GetZone(), SubZone: loc.GetLocality().GetSubZone(),
		},
		LocalityWeight: loc.GetLoadBalancingWeight().GetValue(),
		Hostname:       lb.GetEndpoint().GetHostname(),
		Metadata:       lb.GetMetadata(),
	}
	ep.Workload, _ = metadataString(lb.GetMetadata(), "istio", "workload")
	switch a := addr.GetAddress().(type) {
	case *corev3.Address_SocketAddress:
		ep.Key = socketKey(a.SocketAddress)
		ep.Display = ep.Key
	case *corev3.Address_EnvoyInternalAddress:
		ep.Key = a.EnvoyInternalAddress.GetServerListenerName() + "/" + a.EnvoyInternalAddress.GetEndpointId()
		ep.Display = "envoy://" + ep.Key
	default:
		ep.Key = addr.String()
		ep.Display = ep.Key
	}
	return ep
}

func socketKey(a *corev3.SocketAddress) string {
	return net.JoinHostPort(a.GetAddress(), strconv.FormatUint(uint64(a.GetPortValue()), 10))
}

func health(h corev3.HealthStatus) program.Health {
	switch h {
	case corev3.HealthStatus_UNHEALTHY, corev3.HealthStatus_TIMEOUT:
		return program.Unhealthy
	case corev3.HealthStatus_DRAINING:
		return program.Draining
	case corev3.HealthStatus_DEGRADED:
		return program.Degraded
	}
	return program.Healthy
}

// reach finds the way to an endpoint and puts it where it belongs: an internal listener that dispatches makes the cluster lead
// inside; one whose way depends on the tunnel makes it OriginalDst; a name is resolved; anything else is an Endpoint.
func (b *clusterBase) reach(c *program.Cluster, ep *program.Endpoint, lb *endpointv3.LbEndpoint, g *graph, only bool) {
	refuse := func(err error) {
		ep.Refused = err
		c.Endpoints = append(c.Endpoints, ep)
	}
	t := b.transportFor(lb)
	if t.refused != nil {
		refuse(t.refused)
		return
	}
	switch a := lb.GetEndpoint().GetAddress().GetAddress().(type) {
	case *corev3.Address_SocketAddress:
		b.socketEndpoint(c, ep, a.SocketAddress, t, refuse)
	case *corev3.Address_EnvoyInternalAddress:
		b.internalEndpoint(c, ep, a.EnvoyInternalAddress, t, g, only, refuse)
	default:
		refuse(fmt.Errorf("endpoint address %v: only socket_address and envoy_internal_address can be reached", lb.GetEndpoint().GetAddress()))
	}
}

func (b *clusterBase) socketEndpoint(c *program.Cluster, ep *program.Endpoint, a *corev3.SocketAddress, t *transport, refuse func(error)) {
	if err := checkSocketAddress(a, c.DNS != nil); err != nil {
		refuse(err)
		return
	}
	if ip, err := netip.ParseAddr(a.GetAddress()); err == nil {
		ep.Address = netip.AddrPortFrom(ip.Unmap(), uint16(a.GetPortValue()))
		ep.Hops = append(dial(ep.Address), t.hops...)
		c.Endpoints = append(c.Endpoints, ep)
		return
	}
	if ep.Hostname == "" {
		ep.Hostname = a.GetAddress()
	}
	ep.Hops = slices.Clone(t.hops) // the resolver puts the dial in front
	c.DNS.Names = append(c.DNS.Names, program.DNSName{Host: a.GetAddress(), Port: uint16(a.GetPortValue()), Template: *ep})
}

func (b *clusterBase) internalEndpoint(c *program.Cluster, ep *program.Endpoint, a *corev3.EnvoyInternalAddress, t *transport, g *graph, only bool, refuse func(error)) {
	to := g.internal(a.GetServerListenerName())
	switch {
	case to == nil:
		refuse(fmt.Errorf("there is no internal listener %q", a.GetServerListenerName()))
	case to.dispatch != nil && only:
		c.Internal = to.dispatch
	case to.dispatch != nil:
		refuse(fmt.Errorf("internal listener %q dispatches and cannot be one endpoint of several", a.GetServerListenerName()))
	default:
		b.pathEndpoint(c, ep, to.path, t, only, refuse)
	}
}

// pathEndpoint computes the hops of an endpoint behind a forwarding internal listener.
func (b *clusterBase) pathEndpoint(c *program.Cluster, ep *program.Endpoint, p *path, t *transport, only bool, refuse func(error)) {
	env := pathEnv{meta: ep.Metadata, passed: t}
	local, known := env.metadata(originalDstNamespace, originalDstLocalKey)
	if !known && only && !t.passes(originalDstNamespace) {
		od, err := tunnelDst(p, t)
		if err != nil {
			refuse(err)
			return
		}
		c.OriginalDst = od
		return
	}
	hops, err := p.hops(env)
	if err != nil {
		refuse(err)
		return
	}
	ep.Hops = slices.Concat(hops, t.hops)
	ep.Address, err = netip.ParseAddrPort(local)
	if err != nil {
		ep.Address = netip.AddrPort{} // not an address: peers are then found by other means
	}
	c.Endpoints = append(c.Endpoints, ep)
}

// tunnelDst is for a cluster whose one endpoint says nothing of a destination (encap): it is the tunnel's own.
func tunnelDst(p *path, t *transport) (*program.OriginalDst, error) {
	hops := func(dst addrPort) ([]program.Hop, error) {
		h, err := p.hops(pathEnv{passed: t, state: map[string]stateValue{filter.OriginalDstLocal: {value: dst.String()}}})
		if err != nil {
			return nil, err
		}
		return append(h, t.hops...), nil
	}
	probe := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 1) // TEST-NET-1: only to see whether there is a way
	if _, err := hops(probe); err != nil {
		return nil, err
	}
	return &program.OriginalDst{
		PortOverride: p.portOverride(),
		Hops: func(dst addrPort) []program.Hop {
			h, err := hops(dst)
			if err != nil { // depends on the path alone, which was probed
				return nil
			}
			return h
		},
		Display: func(dst addrPort) string { return "envoy://" + p.listener + "/" + dst.String() },
	}, nil
}

// portOverride is the port that the path's outermost dial uses instead of the destination's, 0 if it does not.
func (p *path) portOverride() uint16 {
	for p.to.next != nil {
		p = p.to.next
	}
	return uint16(p.to.original.GetUpstreamPortOverride().GetValue())
}

// checkSocketAddress says why an address cannot be dialled. Names are for DNS clusters only.
func checkSocketAddress(a *corev3.SocketAddress, names bool) error {
	switch {
	case a.GetProtocol() != corev3.SocketAddress_TCP:
		return fmt.Errorf("socket_address.protocol: %v is not supported", a.GetProtocol())
	case a.GetNamedPort() != "":
		return errors.New("socket_address.named_port is not supported; set port_value")
	case a.GetPortValue() > 65535:
		return fmt.Errorf("socket_address.port_value: %d is not a port", a.GetPortValue())
	case a.GetResolverName() != "":
		return fmt.Errorf("socket_address.resolver_name: there is no resolver %q", a.GetResolverName())
	}
	if _, err := netip.ParseAddr(a.GetAddress()); err != nil && !names {
		return fmt.Errorf("socket_address.address: %q is not an IP address; names need a cluster of type STRICT_DNS or LOGICAL_DNS", a.GetAddress())
	} else if a.GetAddress() == "" {
		return errors.New("socket_address.address is empty")
	}
	return nil
}
