package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/program"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

// Names of Envoy's own, by which a restored original destination travels.
const (
	originalDstNamespace = "envoy.filters.listener.original_dst"
	originalDstLocalKey  = "local"
	originalDstOverride  = "envoy.network.transport_socket.original_dst_address"
)

// path is an internal listener whose chain forwards every connection to one cluster, mostly as a CONNECT: connect_originate and
// the two of double HBONE. It is compiled once and yields the hops of each endpoint that leads to it.
type path struct {
	listener string
	// err says why nothing can go this way.
	err error

	restore   bool // listener filter original_dst
	sets      []pathState
	tunnel    bool // tunneling_config
	authority formula
	headers   []pathHeader
	usePost   bool

	to pathCluster
}

// pathState is one entry of a set_filter_state filter.
type pathState struct {
	key        string
	value      formula
	skipEmpty  bool
	share      bool
	transitive bool
}

type pathHeader struct {
	name  string
	value formula
}

// pathCluster is the cluster that a path leads to.
type pathCluster struct {
	name    string
	timeout time.Duration
	socket  *transport
	http    upstreamHTTP
	// ORIGINAL_DST, or one of the two below.
	isOriginal bool
	original   *clusterv3.Cluster_OriginalDstLbConfig // may be nil
	next       *path                                  // an internal endpoint
	dial       string                                 // a socket address
	// nextMeta is the internal endpoint's metadata.
	nextMeta *corev3.Metadata
}

// hops returns the way for one connection, outermost first.
func (p *path) hops(e pathEnv) ([]program.Hop, error) {
	if p.err != nil {
		return nil, p.err
	}
	e.local = netip.AddrPort{}
	if p.restore {
		// Envoy: metadata first, then filter state.
		s, ok := e.metadata(originalDstNamespace, originalDstLocalKey)
		if !ok {
			s = e.state[filter.OriginalDstLocal].value
		}
		if s != "" {
			dst, err := netip.ParseAddrPort(s)
			if err != nil {
				return nil, fmt.Errorf("original destination %q is not ip:port", s)
			}
			e.local = dst
		}
	}
	if len(p.sets) > 0 {
		e.state = maps.Clone(e.state)
		if e.state == nil {
			e.state = map[string]stateValue{}
		}
	}
	shared := map[string]stateValue{}
	for k, v := range e.state {
		if v.transitive {
			shared[k] = v
		}
	}
	for _, s := range p.sets {
		v, ok := s.value.eval(&e)
		if !ok && s.skipEmpty {
			continue
		}
		if !ok {
			v = "" // the object's factory makes nothing of a value that is not there
		}
		e.state[s.key] = stateValue{v, s.transitive}
		if s.share {
			shared[s.key] = e.state[s.key]
		}
	}
	hops, err := p.reach(e, shared)
	if err != nil {
		return nil, err
	}
	for _, h := range p.to.socket.hops {
		h.ConnectTimeout = p.to.timeout
		hops = append(hops, h)
	}
	if !p.tunnel {
		return hops, nil
	}
	authority, ok := p.authority.eval(&e)
	if !ok || authority == "" {
		return nil, fmt.Errorf("listener %q: tunneling_config.hostname has no value for this endpoint; its metadata does not say where to go", p.listener)
	}
	c := &program.Connect{Authority: authority, UsePost: p.usePost, Cluster: p.to.name}
	for _, h := range p.headers {
		v, ok := h.value.eval(&e)
		if !ok { // only baggage is computed at run time; "-", which Envoy would send, says nothing
			continue
		}
		c.Headers = append(c.Headers, header.Field{Name: h.name, Value: v, ID: header.Lookup(h.name)})
	}
	return append(hops, program.Hop{
		Connect: c, HTTP2: p.to.http.http2, IdleTimeout: p.to.http.idle, MaxRequests: p.to.http.maxRequests, ConnectTimeout: p.to.timeout,
	}), nil
}

// reach returns the hops up to the path's cluster.
func (p *path) reach(e pathEnv, shared map[string]stateValue) ([]program.Hop, error) {
	c := &p.to
	switch {
	case c.next != nil:
		return c.next.hops(pathEnv{meta: c.nextMeta, passed: c.socket, state: shared})
	case c.dial != "":
		return []program.Hop{{Dial: c.dial, ConnectTimeout: c.timeout}}, nil
	}
	// Envoy's order for ORIGINAL_DST: filter state, metadata, the restored local address.
	dst := e.local
	if s, ok := metadataKey(&e, c.original); ok {
		a, err := netip.ParseAddrPort(s)
		if err != nil {
			return nil, fmt.Errorf("original destination %q is not ip:port", s)
		}
		dst = a
	}
	if s := e.state[originalDstOverride].value; s != "" {
		a, err := netip.ParseAddrPort(s)
		if err != nil {
			return nil, fmt.Errorf("original destination %q is not ip:port", s)
		}
		dst = a
	}
	if !dst.IsValid() {
		return nil, fmt.Errorf("cluster %q: there is no original destination", c.name)
	}
	if o := c.original.GetUpstreamPortOverride(); o != nil {
		dst = netip.AddrPortFrom(dst.Addr(), uint16(o.GetValue()))
	}
	return []program.Hop{{Dial: dst.String(), ConnectTimeout: c.timeout}}, nil
}

func metadataKey(e *pathEnv, c *clusterv3.Cluster_OriginalDstLbConfig) (string, bool) {
	k := c.GetMetadataKey()
	if k == nil {
		return "", false
	}
	var keys []string
	for _, s := range k.GetPath() {
		keys = append(keys, s.GetKey())
	}
	return e.metadata(k.GetKey(), keys...)
}

// setTunnel compiles the terminal filter of a path.
func (p *path) setTunnel(tcp *tcpv3.TcpProxy) error {
	if tcp.GetCluster() == "" {
		return errors.New("tcp_proxy: only a single cluster can be forwarded to from an internal listener")
	}
	p.to.name = tcp.GetCluster()
	t := tcp.GetTunnelingConfig()
	if t == nil {
		return nil
	}
	p.tunnel, p.usePost = true, t.GetUsePost()
	var err error
	if p.authority, err = parseFormula(t.GetHostname()); err != nil {
		return fmt.Errorf("tunneling_config.hostname: %w", err)
	}
	for i, h := range t.GetHeadersToAdd() {
		name := strings.ToLower(h.GetHeader().GetKey())
		f, err := parseFormula(h.GetHeader().GetValue())
		if err != nil {
			return fmt.Errorf("tunneling_config.headers_to_add[%d] (%s): %w", i, name, err)
		}
		p.headers = append(p.headers, pathHeader{name, f})
	}
	return nil
}
