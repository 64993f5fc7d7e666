package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/program"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// listenerState is a compiled Listener, kept for the next Compile.
type listenerState struct {
	raw    []byte
	chains []*chainState
	// One of the three, by what the listener is; the first two if it did not decode.
	socket   *program.Listener
	dispatch *program.Dispatch
	template *path // without its cluster

	path     *path // template with the cluster of pathDeps
	pathDeps pathDep

	secrets   []Secret
	findings  *tally
	notes     []string
	accounted *account
}

// pathDep is what a path was completed with.
type pathDep struct {
	known      bool // the cluster is there
	cluster    []byte
	assignment []byte
	next       *path
}

// isPath tells whether a listener forwards all that it gets as CONNECTs.
func isPath(l *listenerv3.Listener, c *listenerv3.FilterChain, d *decoder) bool {
	if l.GetInternalListener() == nil || l.GetFilterChainMatcher() != nil || l.GetDefaultFilterChain() != nil {
		return false
	}
	fs := c.GetFilters()
	if len(fs) == 0 {
		return false
	}
	e, err := d.any(fs[len(fs)-1].GetTypedConfig())
	tcp, ok := e.Message.(*tcpv3.TcpProxy)
	return err == nil && ok && tcp.GetTunnelingConfig() != nil
}

// compilePath compiles a listener that [isPath]. The cluster that it leads to is followed by [graph.follow].
func (d *decoder) compilePath(l *listenerv3.Listener, c *listenerv3.FilterChain) *path {
	p := &path{listener: l.GetName()}
	var errs []error
	for _, f := range l.GetListenerFilters() {
		e, err := d.any(f.GetTypedConfig())
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("listener_filters %q: %w", f.GetName(), err))
		case e.Type == typeOriginalDst && f.GetFilterDisabled() == nil:
			p.restore = true
		case e.Type == typeHTTPInspector: // nothing here asks what it saw
		default:
			errs = append(errs, fmt.Errorf("listener_filters %q: %s is not supported on a listener that forwards to a tunnel", f.GetName(), e.Type))
		}
	}
	filters := c.GetFilters()
	for i, f := range filters {
		e, err := d.any(f.GetTypedConfig())
		if err != nil {
			errs = append(errs, fmt.Errorf("filters[%d] %q: %w", i, f.GetName(), err))
			continue
		}
		if _, ok := inertExtensions[e.Type]; ok {
			continue
		}
		switch m := e.Message.(type) {
		case *setstatev3.Config:
			errs = append(errs, p.addState(m))
		case *tcpv3.TcpProxy:
			if i != len(filters)-1 {
				errs = append(errs, fmt.Errorf("filters[%d]: tcp_proxy must be the last filter", i))
				continue
			}
			errs = append(errs, p.setTunnel(m))
		default:
			errs = append(errs, fmt.Errorf("filters[%d] %q: %s is not supported on a listener that forwards to a tunnel", i, f.GetName(), e.Type))
		}
	}
	if err := errors.Join(errs...); err != nil {
		p.err = fmt.Errorf("listener %q: %w", l.GetName(), err)
	}
	return p
}

// addState takes over the entries of a set_filter_state filter.
func (p *path) addState(m *setstatev3.Config) error {
	for _, v := range append(m.GetOnNewConnection(), m.GetOnDownstreamTlsHandshake()...) {
		f, err := parseFormula(v.GetFormatString().GetTextFormatSource().GetInlineString())
		if err != nil {
			return fmt.Errorf("set_filter_state %q: %w", v.GetObjectKey(), err)
		}
		share := v.GetSharedWithUpstream().Number()
		p.sets = append(p.sets, pathState{
			key: v.GetObjectKey(), value: f, skipEmpty: v.GetSkipIfEmpty(), share: share != 0, transitive: share == 2,
		})
	}
	return nil
}

// socketListener compiles a listener with an address: the HBONE port.
func (d *decoder) socketListener(l *listenerv3.Listener, chains []*chainState) *program.Listener {
	out := &program.Listener{Name: l.GetName()}
	var errs []error
	addrs := []*corev3.Address{l.GetAddress()}
	for _, a := range l.GetAdditionalAddresses() {
		addrs = append(addrs, a.GetAddress())
	}
	for _, a := range addrs {
		ap, err := listenAddress(a)
		if err != nil {
			errs = append(errs, fmt.Errorf("address: %w", err))
			continue
		}
		out.Addresses = append(out.Addresses, ap)
	}
	for _, f := range l.GetListenerFilters() {
		errs = append(errs, fmt.Errorf("listener_filters %q: not supported on a listener with a socket", f.GetName()))
	}
	if l.GetFilterChainMatcher() != nil {
		errs = append(errs, errors.New("filter_chain_matcher: not supported on a listener with a socket"))
	}
	if l.GetUseOriginalDst().GetValue() {
		errs = append(errs, errors.New("use_original_dst: connections are not redirected here"))
	}
	var def *chainState
	switch {
	case len(chains) == 1 && !chains[0].matched && !chains[0].isDefault, len(chains) == 1 && chains[0].isDefault:
		def = chains[0]
	case len(chains) == 0:
		errs = append(errs, errors.New("filter_chains: there is none"))
	default:
		errs = append(errs, fmt.Errorf("filter_chains: %d chains picked by filter_chain_match; a listener with a socket can have one chain that takes everything", len(chains)))
	}
	if def != nil {
		out.Chain, out.TLS = def.out, def.tls
	}
	out.Refused = errors.Join(errs...)
	return out
}

func listenAddress(a *corev3.Address) (netip.AddrPort, error) {
	s := a.GetSocketAddress()
	if s == nil {
		return netip.AddrPort{}, errors.New("only a socket_address can be listened on")
	}
	if err := checkSocketAddress(s, false); err != nil {
		return netip.AddrPort{}, err
	}
	ip, err := netip.ParseAddr(s.GetAddress())
	return netip.AddrPortFrom(ip, uint16(s.GetPortValue())), err
}

// downstreamTLS compiles the transport socket of a chain; nil, nil is plaintext.
func (d *decoder) downstreamTLS(ts *corev3.TransportSocket) (*program.ServerTLS, []Secret, error) {
	if ts == nil {
		return nil, nil, nil
	}
	e, err := d.any(ts.GetTypedConfig())
	if err != nil {
		return nil, nil, fmt.Errorf("transport_socket.typed_config: %w", err)
	}
	if m, ok := e.Message.(*tlsv3.DownstreamTlsContext); ok {
		return serverTLS(m), secretsOf(m.GetCommonTlsContext()), nil
	}
	if e.Type == typeRawBuffer {
		return nil, nil, nil
	}
	return nil, nil, fmt.Errorf("transport_socket %q: %s is not supported", ts.GetName(), e.Type)
}

// defaultInspectTimeout is Envoy's listener_filters_timeout.
const defaultInspectTimeout = 15 * time.Second

// dispatchListener compiles an internal listener that picks among chains. notes are the leaves of its matcher that refuse.
func (d *decoder) dispatchListener(l *listenerv3.Listener, chains []*chainState) (*program.Dispatch, []string) {
	out := &program.Dispatch{
		Name:              l.GetName(),
		InspectTimeout:    duration(l.GetListenerFiltersTimeout(), defaultInspectTimeout),
		ContinueOnTimeout: l.GetContinueOnListenerFiltersTimeout(),
	}
	var errs []error
	for _, f := range l.GetListenerFilters() {
		if err := d.listenerFilter(out, f); err != nil {
			errs = append(errs, fmt.Errorf("listener_filters %q: %w", f.GetName(), err))
		}
	}
	byName := map[string]*program.Chain{}
	var unmatched, matched int
	var notes []string
	for _, c := range chains {
		if c.isDefault {
			out.Else = &program.PortMatch{Any: &program.ProtocolMatch{Chain: c.out}}
			continue
		}
		if _, ok := byName[c.name]; !ok {
			byName[c.name] = c.out
		}
		if c.matched {
			matched++
		} else {
			unmatched++
		}
		if c.tls != nil {
			errs = append(errs, fmt.Errorf("filter_chains %q: TLS inside of a tunnel is not supported", c.name))
		}
	}
	switch m := l.GetFilterChainMatcher(); {
	case m != nil:
		tree := &matching{chains: byName, d: d, out: out}
		errs = append(errs, tree.compile(m))
		slices.Sort(tree.refused) // its order is that of a map
		notes = tree.refused
	case matched > 0:
		errs = append(errs, errors.New("filter_chains: filter_chain_match is not supported on an internal listener; use filter_chain_matcher"))
	case unmatched == 1:
		for _, c := range byName {
			out.Else = &program.PortMatch{Any: &program.ProtocolMatch{Chain: c}}
		}
	case unmatched > 1:
		errs = append(errs, fmt.Errorf("filter_chains: %d chains and nothing that picks among them", unmatched))
	case out.Else == nil:
		errs = append(errs, errors.New("filter_chains: there is none"))
	}
	if out.Ranges == nil {
		out.Ranges = program.NewRanges()
	}
	out.Refused = errors.Join(errs...)
	return out, notes
}
