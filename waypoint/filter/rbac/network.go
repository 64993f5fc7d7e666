package rbac

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	rules "github.com/gowaypoint/gowaypoint/authz/rbac"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"

	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
)

// Network returns the compiler of the network filter.
//
// The filter decides before anything is dialled, and again about an open connection when the configuration has changed; both
// are counted. Envoy decides at the client's first byte, when a server that speaks first has been heard already.
func Network(o Options) filter.Compiler[filter.Network] {
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
			base := compiled.StatPrefix
			if !strings.HasSuffix(base, ".") {
				base += "."
			}
			base = braces.Replace(base) + "rbac."
			return &networkFilter{
				name: name, Filter: compiled, out: o.audit(),
				enforced: newCounters(o.Stats, base, "", ""),
				shadow:   newCounters(o.Stats, base, compiled.ShadowRulesStatPrefix, "shadow_"),
			}, nil
		},
	}
}

type networkFilter struct {
	name string
	*rules.Filter
	enforced, shadow *counters
	out              io.Writer
}

func (f *networkFilter) Name() string { return f.name }

func (f *networkFilter) Notes() []string {
	notes := slices.Clone(f.Filter.Notes)
	if f.Shadow != nil {
		notes = append(notes, "shadow rules: results are counted, but not written as dynamic metadata, which connections do not have")
	}
	return notes
}

// Connect decides.
func (f *networkFilter) Connect(c *filter.Conn) *filter.Denial {
	if f.Enforced == nil && f.Shadow == nil {
		return nil
	}
	q := ofConn(c)
	defer q.release()
	if f.Shadow != nil {
		d := f.Shadow.Decide(&q.request)
		f.shadow.count(&d, false)
		if f.ShadowAudit.Wants(d) && f.ShadowAudit.Stdout {
			writeAudit(f.out, f.name, q, &d, true)
		}
	}
	if f.Enforced == nil {
		return nil
	}
	d := f.Enforced.Decide(&q.request)
	f.enforced.count(&d, false)
	if f.EnforcedAudit.Wants(d) && f.EnforcedAudit.Stdout {
		writeAudit(f.out, f.name, q, &d, false)
	}
	if d.Allowed {
		return nil
	}
	return &filter.Denial{Details: d.Details, Delay: f.DelayDeny}
}
