package rbac

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	rules "github.com/gowaypoint/gowaypoint/authz/rbac"
	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"

	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
)

// Network returns the compiler of the network filter. Counters go to stats.
//
// The filter decides before anything is dialled, and again about an open connection when the configuration has changed; both
// are counted. Envoy decides at the client's first byte, when a server that speaks first has been heard already.
func Network(stats *metrics.Stats) filter.Compiler[filter.Network] {
	return filter.Compiler[filter.Network]{
		New: func(name string, config proto.Message) (filter.Network, error) {
			c, ok := config.(*networkv3.RBAC)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T, not a network RBAC", config)
			}
			compiled, err := rules.FromNetwork(c)
			if err != nil {
				return nil, err
			}
			f := &networkFilter{
				name:         name,
				policies:     newPolicies(compiled),
				enforcedSink: newSink(stats, compiled.StatPrefix+"rbac.", compiled.EnforcedKeys),
				shadowSink:   newSink(stats, compiled.StatPrefix+"rbac."+compiled.ShadowRulesStatPrefix+"shadow_", compiled.ShadowKeys),
			}
			if compiled.Shadow != nil {
				f.notes = append(f.notes, "shadow_rules: results are counted, but not written as dynamic metadata, which connections do not have")
			}
			if compiled.DelayDeny > 0 {
				f.notes = append(f.notes, "delay_deny: a denied connection is closed at once")
			}
			return f, nil
		},
	}
}

type networkFilter struct {
	name string
	policies
	enforcedSink, shadowSink *sink
	notes                    []string
}

func (f *networkFilter) Name() string    { return f.name }
func (f *networkFilter) Notes() []string { return f.notes }

// Connect decides.
func (f *networkFilter) Connect(c *filter.Conn) *filter.Denial {
	if f.enforced == nil && f.shadow == nil {
		return nil
	}
	q := ofConn(c)
	defer q.release()
	if f.shadow != nil {
		d := f.shadow.Decide(&q.request)
		f.shadowSink.count(&d)
	}
	if f.enforced == nil {
		return nil
	}
	d := f.enforced.Decide(&q.request)
	f.enforcedSink.count(&d)
	if d.Allowed {
		return nil
	}
	return &filter.Denial{Details: d.Details}
}
