package config

import (
	"errors"
	"fmt"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/program"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
)

// defaultConnectTimeout is Envoy's; the fixed clusters of a waypoint come without one.
const defaultConnectTimeout = 5 * time.Second

// clusterBase is what a Cluster says apart from its endpoints. It is compiled when the Cluster changes, and is immutable.
type clusterBase struct {
	out      program.Cluster // a template: Endpoints, Internal, DNS and OriginalDst are filled in per assignment
	edsName  string          // "" if the endpoints are in the Cluster
	inline   *endpointv3.ClusterLoadAssignment
	socket   *transport
	matches  []socketMatch
	http     upstreamHTTP
	orig     *clusterv3.Cluster_OriginalDstLbConfig
	secrets  []Secret
	findings *tally
}

// base compiles a Cluster. What cannot be compiled refuses the cluster as a whole: requests to it get a 503.
func (d *decoder) base(c *clusterv3.Cluster) *clusterBase {
	b := &clusterBase{out: program.Cluster{Name: c.GetName(), AltStatName: c.GetAltStatName(), Metadata: c.GetMetadata()}, orig: c.GetOriginalDstLbConfig()}
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	out := &b.out
	add(b.setType(c))
	out.ConnectTimeout = duration(c.GetConnectTimeout(), defaultConnectTimeout)

	var err error
	out.LB, err = loadBalancing(c)
	add(err)
	out.Limits = circuitBreakers(c.GetCircuitBreakers())
	out.Outlier = outlierDetection(c.GetOutlierDetection())

	b.http, err = d.upstreamHTTP(c)
	add(err)
	out.Protocol, out.HTTP2, out.IdleTimeout = b.http.protocol, b.http.http2, b.http.idle
	out.MaxRequests, out.MaxConnectionDuration = b.http.maxRequests, b.http.maxDuration
	out.AutoSNI, out.AutoSANValidation = b.http.autoSNI, b.http.autoSAN

	b.socket = d.transport(c.GetTransportSocket())
	add(b.socket.refused)
	for _, m := range c.GetTransportSocketMatches() {
		t := d.transport(m.GetTransportSocket())
		add(t.refused)
		match := map[string]string{}
		for k, v := range m.GetMatch().GetFields() {
			match[k] = v.GetStringValue()
		}
		b.matches = append(b.matches, socketMatch{m.GetName(), match, t})
	}
	if c.GetTransportSocketMatcher() != nil {
		add(errors.New("transport_socket_matcher is not supported"))
	}
	for _, f := range c.GetFilters() {
		if f.GetConfigDiscovery() != nil {
			add(fmt.Errorf("filters %q: config_discovery is not supported on a cluster", f.GetName()))
			continue
		}
		e, err := d.any(f.GetTypedConfig())
		if err != nil {
			add(fmt.Errorf("filters %q: %w", f.GetName(), err))
		} else if _, ok := inertExtensions[e.Type]; !ok {
			add(fmt.Errorf("filters %q: %s is not supported", f.GetName(), e.Type))
		}
	}
	b.service(c.GetMetadata())
	b.secrets = b.socket.secrets
	for _, m := range b.matches {
		b.secrets = append(b.secrets, m.secrets...)
	}
	out.Refused = errors.Join(errs...)
	return b
}

func (b *clusterBase) setType(c *clusterv3.Cluster) error {
	b.inline = c.GetLoadAssignment()
	if ct := c.GetClusterType(); ct != nil {
		return fmt.Errorf("cluster_type %q is not supported", ct.GetName())
	}
	switch c.GetType() {
	case clusterv3.Cluster_STATIC:
		b.out.Type = program.Static
	case clusterv3.Cluster_EDS:
		b.out.Type = program.EDS
		b.edsName = c.GetEdsClusterConfig().GetServiceName()
		if b.edsName == "" {
			b.edsName = c.GetName()
		}
		b.inline = nil
	case clusterv3.Cluster_STRICT_DNS, clusterv3.Cluster_LOGICAL_DNS:
		b.out.Type = program.StrictDNS
		if c.GetType() == clusterv3.Cluster_LOGICAL_DNS {
			b.out.Type = program.LogicalDNS
		}
		b.out.DNS = &program.DNS{
			RefreshRate: duration(c.GetDnsRefreshRate(), 5*time.Second), // Envoy's default
			RespectTTL:  c.GetRespectDnsTtl(),
			Family:      dnsFamily(c.GetDnsLookupFamily()),
		}
	case clusterv3.Cluster_ORIGINAL_DST:
		b.out.Type = program.OriginalDstType
	default:
		return fmt.Errorf("type %v is not supported", c.GetType())
	}
	return nil
}

func dnsFamily(f clusterv3.Cluster_DnsLookupFamily) program.DNSFamily {
	switch f {
	case clusterv3.Cluster_V4_ONLY:
		return program.DNSV4Only
	case clusterv3.Cluster_V6_ONLY:
		return program.DNSV6Only
	case clusterv3.Cluster_V4_PREFERRED:
		return program.DNSV4Preferred
	case clusterv3.Cluster_ALL:
		return program.DNSAll
	}
	return program.DNSAuto
}

// service reads what istiod says of the service behind the cluster, for telemetry.
func (b *clusterBase) service(m *corev3.Metadata) {
	istio := m.GetFilterMetadata()["istio"].GetFields()
	b.out.Subset = istio["subset"].GetStringValue()
	if list := istio["services"].GetListValue().GetValues(); len(list) > 0 {
		s := list[0].GetStructValue().GetFields()
		b.out.Service = program.Service{
			Host: s["host"].GetStringValue(), Name: s["name"].GetStringValue(), Namespace: s["namespace"].GetStringValue(),
		}
	}
}

// build makes the program's cluster of the base and its assignment; nil means that none has come.
func (b *clusterBase) build(cla *endpointv3.ClusterLoadAssignment, g *graph) *program.Cluster {
	c := b.out
	c.Warm = true
	if b.edsName != "" {
		c.Warm = cla != nil
	} else {
		cla = b.inline
	}
	if c.Type == program.OriginalDstType {
		c.OriginalDst = b.originalDst()
		return &c
	}
	if cla == nil {
		return &c
	}
	if c.DNS != nil {
		dns := *c.DNS
		c.DNS = &dns
	}
	b.endpoints(&c, cla, g)
	return &c
}

// originalDst is for ORIGINAL_DST clusters: the tunnel's own destination is dialled, without HBONE (inventory 13.3).
func (b *clusterBase) originalDst() *program.OriginalDst {
	port := uint16(b.orig.GetUpstreamPortOverride().GetValue())
	layers := b.socket.hops
	return &program.OriginalDst{
		PortOverride: port,
		Hops:         func(dst addrPort) []program.Hop { return append(dial(withPort(dst, port)), layers...) },
		Display:      func(dst addrPort) string { return withPort(dst, port).String() },
	}
}
