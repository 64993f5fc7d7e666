package config

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/program"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

// chainState is a compiled filter chain, kept for the next Compile.
type chainState struct {
	name      string
	raw       []byte
	isDefault bool // default_filter_chain
	matched   bool // it has a filter_chain_match
	out       *program.Chain
	tls       *program.ServerTLS
	secrets   []Secret
	// deps are the resources of other types that it was made of, as they were; or their absence.
	deps []dep
	// clusters are those that it sends to, as far as the configuration names them.
	clusters []string
	findings *tally
	notes    []string
}

// dep is a resource that a chain was compiled with.
type dep struct {
	typeURL, name string
	there         bool
	raw           []byte
}

// chainCompiler compiles one chain.
type chainCompiler struct {
	*decoder
	opt  *Options
	res  *Resources
	out  *chainState
	errs []error
	// extra are messages from other resources, for the census.
	extra []proto.Message
}

func (c *chainCompiler) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func (c *chainCompiler) note(format string, args ...any) {
	c.out.notes = append(c.out.notes, fmt.Sprintf(format, args...))
}

// resource looks up what the chain depends on.
func (c *chainCompiler) resource(typeURL, name string) (Resource, bool) {
	r, ok := c.res.Of(typeURL, false)[name]
	c.out.deps = append(c.out.deps, dep{typeURL, name, ok, rawOf(r)})
	return r, ok
}

// compileChain compiles a chain. Whatever goes wrong ends in Refused, with the reason.
func compileChain(opt *Options, res *Resources, fields *census, fc *listenerv3.FilterChain) *chainState {
	c := &chainCompiler{
		decoder: newDecoder(), opt: opt, res: res,
		out: &chainState{name: fc.GetName(), out: &program.Chain{Name: fc.GetName()}},
	}
	c.out.matched = fc.GetFilterChainMatch() != nil && !emptyMessage(fc.GetFilterChainMatch())
	var err error
	c.out.tls, c.out.secrets, err = c.downstreamTLS(fc.GetTransportSocket())
	if err != nil {
		c.errs = append(c.errs, err)
	}
	if fc.GetUseProxyProto().GetValue() { //nolint:staticcheck // deprecated, and not to be passed over
		c.fail("use_proxy_proto is not supported")
	}
	c.filters(fc.GetFilters())
	c.out.findings = fields.take(c.decoder, append(c.extra, fc)...)
	c.errs = append(c.errs, c.out.findings.refused())
	c.out.out.Refused = errors.Join(c.errs...)
	if c.out.out.Refused != nil {
		c.out.refuse()
	}
	return c.out
}

// refuse takes away what a chain without all of its parts must not do, should anybody not look at Refused. HTTP stays, so that
// the refusal can be a 500 rather than a close.
func (c *chainState) refuse() {
	c.out.TCP, c.out.Network = nil, nil
	if c.out.HTTP != nil {
		h := *c.out.HTTP
		h.Filters, h.Routes = nil, nil
		c.out.HTTP = &h
	}
}

func (c *chainCompiler) filters(fs []*listenerv3.Filter) {
	if len(fs) == 0 {
		c.fail("filters: there is none")
		return
	}
	for i, f := range fs {
		last := i == len(fs)-1
		where := fmt.Sprintf("filters[%d] %q", i, f.GetName())
		packed := f.GetTypedConfig()
		if cd := f.GetConfigDiscovery(); cd != nil {
			var err error
			if packed, err = c.discovered(f.GetName(), cd); err != nil {
				c.fail("%s: %w", where, err)
				continue
			}
		}
		e, err := c.any(packed)
		if err != nil {
			c.fail("%s: %w", where, err)
			continue
		}
		switch m := e.Message.(type) {
		case *hcmv3.HttpConnectionManager:
			c.terminal(last, where, func() { c.http(m) })
			continue
		case *tcpv3.TcpProxy:
			c.terminal(last, where, func() { c.tcp(m) })
			continue
		}
		if n, ok := c.network(f.GetName(), where, e); ok && n != nil {
			c.out.out.Network = append(c.out.out.Network, n)
		}
	}
	if c.out.out.HTTP == nil && c.out.out.TCP == nil && len(c.errs) == 0 {
		c.fail("filters: the last one must be http_connection_manager or tcp_proxy")
	}
}

func (c *chainCompiler) terminal(last bool, where string, compile func()) {
	if !last {
		c.fail("%s: a terminal filter must be the last one", where)
		return
	}
	compile()
}

// network compiles a network filter that is not terminal.
func (c *chainCompiler) network(name, where string, e extension) (filter.Network, bool) {
	k, ok := c.opt.Filters.Network[e.Type]
	if !ok || k.New == nil {
		if _, inert := inertExtensions[e.Type]; inert {
			return nil, true
		}
		c.fail("%s: %s is not supported", where, e.Type)
		return nil, false
	}
	n, err := k.New(name, e.Message)
	if err != nil {
		c.fail("%s: %w", where, err)
		return nil, false
	}
	c.noted(where, n)
	return n, true
}

// defaultTCPIdle is Envoy's tcp_proxy.idle_timeout.
const defaultTCPIdle = defaultUpstreamIdle

func (c *chainCompiler) tcp(m *tcpv3.TcpProxy) {
	out := &program.TCP{
		StatPrefix:  m.GetStatPrefix(),
		IdleTimeout: duration(m.GetIdleTimeout(), defaultTCPIdle),
		MaxDuration: duration(m.GetMaxDownstreamConnectionDuration(), 0),
	}
	switch s := m.GetClusterSpecifier().(type) {
	case *tcpv3.TcpProxy_Cluster:
		out.Clusters = []program.WeightedCluster{{Name: s.Cluster, Weight: 1}}
	case *tcpv3.TcpProxy_WeightedClusters:
		for i, w := range s.WeightedClusters.GetClusters() {
			if w.GetMetadataMatch() != nil {
				c.fail("tcp_proxy: weighted_clusters.clusters[%d].metadata_match is not supported", i)
			}
			if w.GetWeight() > 0 {
				out.Clusters = append(out.Clusters, program.WeightedCluster{Name: w.GetName(), Weight: w.GetWeight()})
			}
		}
	default:
		c.fail("tcp_proxy: neither cluster nor weighted_clusters")
	}
	for _, w := range out.Clusters {
		c.out.clusters = append(c.out.clusters, w.Name)
		out.TotalWeight += w.Weight
	}
	for _, h := range m.GetHashPolicy() {
		if h.GetSourceIp() != nil {
			out.HashSourceIP = true
		} else {
			c.fail("tcp_proxy: hash_policy: only source_ip is supported")
		}
	}
	if t := m.GetTunnelingConfig(); t != nil {
		out.Tunnel = &program.Tunneling{Hostname: t.GetHostname(), UsePost: t.GetUsePost()}
		if len(t.GetHeadersToAdd()) > 0 {
			c.fail("tcp_proxy: tunneling_config.headers_to_add is supported on internal listeners that forward only")
		}
	}
	logs, notes, err := c.opt.accessLogs(m.GetAccessLog())
	if err != nil {
		c.fail("tcp_proxy: access_log: %w", err)
	}
	c.out.notes = append(c.out.notes, notes...)
	out.Logs = logs
	c.out.out.TCP = out
}
