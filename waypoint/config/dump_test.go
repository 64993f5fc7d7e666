package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// dump renders a Program for people and fixtures.
func dump(p *program.Program) string {
	d := &dumper{chains: map[*program.Chain]bool{}}
	for _, l := range p.Listeners {
		d.line(0, "listener %s %v", l.Name, l.Addresses)
		d.refused(1, l.Refused)
		if l.TLS != nil {
			d.line(1, "TLS secrets %v", l.TLS.Secrets)
		}
		if l.Chain != nil {
			d.chain(1, l.Chain)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Clusters)) {
		d.cluster(p.Clusters[name])
	}
	return d.b.String()
}

type dumper struct {
	b      strings.Builder
	chains map[*program.Chain]bool
}

func (d *dumper) line(depth int, format string, args ...any) {
	d.b.WriteString(strings.Repeat("  ", depth))
	fmt.Fprintf(&d.b, format, args...)
	d.b.WriteByte('\n')
}

func (d *dumper) refused(depth int, err error) {
	if err != nil {
		d.line(depth, "REFUSED %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

func (d *dumper) chain(depth int, c *program.Chain) {
	d.line(depth, "chain %q", c.Name)
	d.refused(depth+1, c.Refused)
	for _, n := range c.Network {
		d.line(depth+1, "network %s", n.Name())
	}
	if h := c.HTTP; h != nil {
		d.line(depth+1, "http server=%s normalize=%v upgrades=%v", h.ServerName, h.NormalizePath, h.Upgrades)
		for _, f := range h.Filters {
			d.line(depth+2, "filter %s", f.Name())
		}
		if h.Routes != nil {
			d.line(depth+2, "routes %s", h.Routes.Name)
		}
	}
	if t := c.TCP; t != nil {
		d.line(depth+1, "tcp %v idle=%v", t.Clusters, t.IdleTimeout)
	}
}

func (d *dumper) cluster(c *program.Cluster) {
	d.line(0, "cluster %s", c.Name)
	d.refused(1, c.Refused)
	if !c.Warm {
		d.line(1, "not warm")
	}
	d.line(1, "connect=%v protocol=%v lb=%v panic=%v%%", c.ConnectTimeout, []string{"http/1.1", "http/2", "downstream"}[c.Protocol], c.LB.Policy, c.LB.PanicThreshold)
	for _, ep := range c.Endpoints {
		d.line(1, "endpoint %s priority=%d weight=%d health=%d workload=%q", ep.Display, ep.Priority, ep.Weight, ep.Health, ep.Workload)
		d.refused(2, ep.Refused)
		d.hops(2, ep.Hops)
	}
	if c.DNS != nil {
		for _, n := range c.DNS.Names {
			d.line(1, "resolve %s port %d every %v", n.Host, n.Port, c.DNS.RefreshRate)
			d.hops(2, n.Template.Hops)
		}
	}
	if o := c.OriginalDst; o != nil {
		dst := netip.MustParseAddrPort("10.9.8.7:80")
		d.line(1, "original destination, say %s: %s", dst, o.Display(dst))
		d.hops(2, o.Hops(dst))
	}
	if c.Internal != nil {
		d.dispatch(1, c.Internal)
	}
}

func (d *dumper) hops(depth int, hops []program.Hop) {
	for _, h := range hops {
		switch {
		case h.Dial != "":
			d.line(depth, "dial %s", h.Dial)
		case h.TLS != nil:
			d.line(depth, "TLS secrets %v", h.TLS.Secrets)
		case h.Connect != nil:
			d.line(depth, "CONNECT %s over %s idle=%v max=%d", h.Connect.Authority, h.Connect.Cluster, h.IdleTimeout, h.MaxRequests)
			for _, f := range h.Connect.Headers {
				d.line(depth+1, "%s: %s", f.Name, f.Value)
			}
		default:
			d.line(depth, "PROXY v%d", h.Proxy)
		}
	}
}

func (d *dumper) dispatch(depth int, x *program.Dispatch) {
	d.line(depth, "dispatch %s original-dst=%v http-inspector=%v but %v, wait %v", x.Name, x.OriginalDst, x.HTTPInspector, x.HTTPInspectorDisabled, x.InspectTimeout)
	d.refused(depth+1, x.Refused)
	for _, a := range slices.Sorted(maps.Keys(x.Authorities)) {
		d.line(depth+1, "authority %s", a)
		d.ports(depth+2, x.Authorities[a])
	}
	all := map[string]*program.PortMatch{}
	x.Ranges.All(func(p netip.Prefix, m *program.PortMatch) { all[p.String()] = m })
	for _, p := range slices.Sorted(maps.Keys(all)) {
		d.line(depth+1, "range %s", p)
		d.ports(depth+2, all[p])
	}
	if x.Else != nil {
		d.line(depth+1, "else")
		d.ports(depth+2, x.Else)
	}
}

func (d *dumper) ports(depth int, m *program.PortMatch) {
	for _, p := range slices.Sorted(maps.Keys(m.Ports)) {
		d.protocols(depth, fmt.Sprintf("port %d", p), m.Ports[p])
	}
	if m.Any != nil {
		d.protocols(depth, "any port", m.Any)
	}
}

func (d *dumper) protocols(depth int, what string, m *program.ProtocolMatch) {
	one := func(label string, c *program.Chain) {
		if c == nil {
			return
		}
		if d.chains[c] {
			d.line(depth, "%s -> chain %q as above", label, c.Name)
			return
		}
		d.chains[c] = true
		d.line(depth, "%s ->", label)
		d.chain(depth+1, c)
	}
	one(what, m.Chain)
	one(what+" http/1.0", m.HTTP10)
	one(what+" http/1.1", m.HTTP11)
	one(what+" h2c", m.H2C)
	one(what+" otherwise", m.Else)
}
