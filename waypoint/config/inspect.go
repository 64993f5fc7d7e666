package config

import (
	"fmt"

	"github.com/gowaypoint/gowaypoint/waypoint/program"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3" // to decode it
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"   // to decode it
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"  // to decode it
)

// The listener filters that exist here, by the type of their configuration.
const (
	typeOriginalDst   = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
	typeHTTPInspector = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
	typeTLSInspector  = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
	typeRawBuffer     = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
)

func (d *decoder) listenerFilter(out *program.Dispatch, f *listenerv3.ListenerFilter) error {
	if f.GetConfigDiscovery() != nil {
		return fmt.Errorf("config_discovery is not supported for listener filters")
	}
	e, err := d.any(f.GetTypedConfig())
	if err != nil {
		return err
	}
	off, err := disabledPorts(f.GetFilterDisabled())
	if err != nil {
		return fmt.Errorf("filter_disabled: %w", err)
	}
	switch e.Type {
	case typeOriginalDst:
		if len(off) > 0 {
			return fmt.Errorf("filter_disabled: the original destination is restored for all ports or none")
		}
		out.OriginalDst = true
	case typeHTTPInspector:
		out.HTTPInspector, out.HTTPInspectorDisabled = true, off
	case typeTLSInspector:
		out.TLSInspector, out.TLSInspectorDisabled = true, off
	default:
		return fmt.Errorf("%s is not supported", e.Type)
	}
	return nil
}

const ports = 1 << 16

type portBits [ports]bool

// disabledPorts turns a predicate over destination ports into the set of ports for which it holds.
func disabledPorts(p *listenerv3.ListenerFilterChainMatchPredicate) (program.PortSet, error) {
	if p == nil {
		return nil, nil
	}
	bits := new(portBits)
	if err := predicate(p, bits); err != nil {
		return nil, err
	}
	var out program.PortSet
	for i := 0; i < ports; i++ {
		if !bits[i] {
			continue
		}
		from := i
		for i < ports && bits[i] {
			i++
		}
		out = append(out, program.PortRange{From: uint32(from), To: uint32(i)})
	}
	return out, nil
}

// predicate sets the bits of the ports for which p holds; bits is clear before.
func predicate(p *listenerv3.ListenerFilterChainMatchPredicate, bits *portBits) error {
	switch r := p.GetRule().(type) {
	case *listenerv3.ListenerFilterChainMatchPredicate_AnyMatch:
		for i := range bits {
			bits[i] = r.AnyMatch
		}
	case *listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange:
		from, to := max(0, r.DestinationPortRange.GetStart()), min(ports, r.DestinationPortRange.GetEnd())
		for i := from; i < to; i++ {
			bits[i] = true
		}
	case *listenerv3.ListenerFilterChainMatchPredicate_NotMatch:
		if err := predicate(r.NotMatch, bits); err != nil {
			return err
		}
		for i := range bits {
			bits[i] = !bits[i]
		}
	case *listenerv3.ListenerFilterChainMatchPredicate_OrMatch:
		for _, rule := range r.OrMatch.GetRules() {
			if isRange(rule) { // the usual case needs no second table
				if err := predicate(rule, bits); err != nil {
					return err
				}
				continue
			}
			one := new(portBits)
			if err := predicate(rule, one); err != nil {
				return err
			}
			for i := range bits {
				bits[i] = bits[i] || one[i]
			}
		}
	case *listenerv3.ListenerFilterChainMatchPredicate_AndMatch:
		for i := range bits {
			bits[i] = true
		}
		for _, rule := range r.AndMatch.GetRules() {
			one := new(portBits)
			if err := predicate(rule, one); err != nil {
				return err
			}
			for i := range bits {
				bits[i] = bits[i] && one[i]
			}
		}
	default:
		return fmt.Errorf("unknown kind of rule")
	}
	return nil
}

func isRange(p *listenerv3.ListenerFilterChainMatchPredicate) bool {
	return p.GetDestinationPortRange() != nil
}
