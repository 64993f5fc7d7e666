package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gowaypoint/gowaypoint/waypoint/program"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
)

// graph follows names during one Compile.
type graph struct {
	c       *Compiler
	res     *Resources
	targets map[string]target
	// used collects the internal listeners that the cluster being built asked for.
	used []use
}

// target is what an internal listener's name leads to; at most one is set.
type target struct {
	dispatch *program.Dispatch
	path     *path
}

// internal resolves the name of an internal listener; nil if there is none.
func (g *graph) internal(name string) *target {
	t := g.targets[name]
	g.used = append(g.used, use{name, t})
	if t == (target{}) {
		return nil
	}
	return &t
}

// follow completes the path of a listener with the cluster that it leads to, and so on.
func (g *graph) follow(name string, visiting []string) *path {
	if slices.Contains(visiting, name) {
		circle := append(slices.Clone(visiting), name)
		return &path{listener: name, err: fmt.Errorf("internal listeners lead in a circle: %s", strings.Join(circle, " → "))}
	}
	ls := g.c.listeners[name]
	if ls == nil || ls.template == nil {
		return &path{listener: name, err: fmt.Errorf("internal listener %q does not exist, or does not forward to a tunnel", name)}
	}
	if t, ok := g.targets[name]; ok {
		return t.path
	}
	to, deps := g.pathCluster(ls.template, append(visiting, name))
	if ls.path == nil || !sameDeps(ls.pathDeps, deps) {
		p := *ls.template
		p.to = to.pathCluster
		if p.err == nil {
			p.err = to.err
		}
		ls.path, ls.pathDeps = &p, deps
	}
	if len(visiting) == 0 { // else a circle may be in it that is none from the path's own point of view
		g.targets[name] = target{path: ls.path}
	}
	return ls.path
}

func sameDeps(a, b pathDep) bool {
	return a.known == b.known && a.next == b.next && same(a.cluster, b.cluster) && same(a.assignment, b.assignment)
}

// resolved is a path's cluster, or why it cannot be used.
type resolved struct {
	pathCluster
	err error
}

// pathCluster resolves the cluster that a path names.
func (g *graph) pathCluster(p *path, visiting []string) (resolved, pathDep) {
	out := resolved{pathCluster: pathCluster{name: p.to.name, socket: &transport{}}}
	r, ok := g.res.Clusters[p.to.name]
	if p.err != nil || !ok {
		out.err = fmt.Errorf("listener %q: cluster %q does not exist", p.listener, p.to.name)
		return out, pathDep{known: ok}
	}
	b := g.base(p.to.name, r)
	dep := pathDep{known: true, cluster: rawOf(r)}
	cla := b.inline
	if b.edsName != "" {
		e, ok := g.res.Endpoints[b.edsName]
		if !ok {
			out.err = fmt.Errorf("cluster %q waits for its endpoints", p.to.name)
			return out, dep
		}
		dep.assignment = rawOf(e)
		var err error
		if cla, err = decodeAssignment(e); err != nil {
			out.err = fmt.Errorf("endpoints of cluster %q: %w", p.to.name, err)
			return out, dep
		}
	}
	out.timeout, out.http, out.socket, out.err = b.out.ConnectTimeout, b.http, b.socket, b.out.Refused
	if out.err != nil {
		out.err = fmt.Errorf("cluster %q: %w", p.to.name, out.err)
	}
	if b.out.Type == program.OriginalDstType {
		out.original = b.orig
		out.isOriginal = true
		return out, dep
	}
	lb, err := onlyEndpoint(cla)
	if err != nil {
		out.err = join(out.err, fmt.Errorf("cluster %q: %w", p.to.name, err))
		return out, dep
	}
	out.socket = b.transportFor(lb)
	switch a := lb.GetEndpoint().GetAddress().GetAddress().(type) {
	case *corev3.Address_EnvoyInternalAddress:
		out.next = g.follow(a.EnvoyInternalAddress.GetServerListenerName(), visiting)
		out.nextMeta = lb.GetMetadata()
		dep.next = out.next
	case *corev3.Address_SocketAddress:
		if err := checkSocketAddress(a.SocketAddress, false); err != nil {
			out.err = join(out.err, fmt.Errorf("cluster %q: %w", p.to.name, err))
			return out, dep
		}
		out.dial = socketKey(a.SocketAddress)
	default:
		out.err = join(out.err, fmt.Errorf("cluster %q: its endpoint has no address that can be reached", p.to.name))
	}
	return out, dep
}

// onlyEndpoint returns the endpoint of a path's cluster: there is nobody to balance load within a path.
func onlyEndpoint(cla *endpointv3.ClusterLoadAssignment) (*endpointv3.LbEndpoint, error) {
	var all []*endpointv3.LbEndpoint
	for _, loc := range cla.GetEndpoints() {
		all = append(all, loc.GetLbEndpoints()...)
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("%d endpoints; a cluster behind an internal listener that forwards to a tunnel must have one", len(all))
	}
	return all[0], nil
}

// base returns the compiled Cluster, from the last time if its bytes are the same.
func (g *graph) base(name string, r Resource) *clusterBase {
	raw := rawOf(r)
	st := g.c.clusters[name]
	if st == nil {
		st = &clusterState{}
		g.c.clusters[name] = st
	}
	if st.base != nil && same(st.raw, raw) {
		st.raw = raw
		return st.base
	}
	g.c.unlinkEDS(name, st.base)
	st.raw, st.out = raw, nil
	st.base = g.compileBase(name, r)
	g.c.linkEDS(name, st.base)
	return st.base
}

func (g *graph) compileBase(name string, r Resource) *clusterBase {
	d := newDecoder()
	m, err := decodeCluster(r)
	if err != nil {
		return &clusterBase{out: program.Cluster{Name: name, Refused: err}, socket: &transport{refused: err}, findings: &tally{}}
	}
	b := d.base(m)
	b.out.Name = name
	b.findings = g.c.fields.take(d, m)
	b.out.Refused = join(b.out.Refused, b.findings.refused())
	return b
}

// cluster returns the program's cluster, the same as last time if nothing that it was made of has changed.
func (g *graph) cluster(name string, r Resource) *program.Cluster {
	b := g.base(name, r)
	st := g.c.clusters[name]
	var e Resource
	has := false
	if b.edsName != "" {
		e, has = g.res.Endpoints[b.edsName]
	}
	cla := rawOf(e)
	if st.out != nil && st.hasCLA == has && same(st.cla, cla) && g.unchanged(st.used) {
		st.cla = cla
		return st.out
	}
	var m *endpointv3.ClusterLoadAssignment
	var err error
	if st.hasCLA != has || !same(st.cla, cla) || st.claFindings == nil {
		st.claFindings = &tally{}
	}
	if has {
		if m, err = decodeAssignment(e); err == nil {
			st.claFindings = g.c.fields.take(newDecoder(), m)
			err = st.claFindings.refused()
		}
	}
	g.used = nil
	st.out = b.build(m, g)
	st.used, g.used = g.used, nil
	st.used = slices.CompactFunc(st.used, func(a, b use) bool { return a.listener == b.listener })
	st.cla, st.hasCLA = cla, has
	if err != nil {
		st.out.Refused = join(st.out.Refused, fmt.Errorf("endpoints: %w", err))
	}
	if st.out.Internal != nil {
		g.c.internal[name] = true
	} else {
		delete(g.c.internal, name)
	}
	g.c.ledger.put("cluster "+name, st.account(name))
	g.c.ledger.put(endpointsOf(name), st.endpoints(name))
	return st.out
}

func endpointsOf(cluster string) string { return "endpoints " + cluster }

// within names the endpoint accounts of clusters that paths go through: by themselves they need not lead anywhere.
func (g *graph) within() map[string]bool {
	out := map[string]bool{}
	for _, t := range g.targets {
		if t.path != nil {
			out[endpointsOf(t.path.to.name)] = true
		}
	}
	return out
}

func (g *graph) unchanged(used []use) bool {
	for _, u := range used {
		if g.targets[u.listener] != u.target {
			return false
		}
	}
	return true
}

// breakCircles refuses clusters through which a tunnel would come back to a listener that it has passed.
func (g *graph) breakCircles(p *program.Program) {
	for _, name := range g.c.circles {
		g.c.ledger.put("circle "+name, nil)
	}
	g.c.circles = nil
	inside := map[string]*program.Dispatch{} // clusters that lead to a listener of ours
	for name := range g.c.internal {
		if c := p.Clusters[name]; c != nil && c.Internal != nil {
			inside[name] = c.Internal
		}
	}
	if len(inside) == 0 {
		return
	}
	leads := map[*program.Dispatch][]string{}
	for _, ls := range g.c.listeners {
		if ls.dispatch == nil {
			continue
		}
		for _, ch := range ls.chains {
			for _, name := range ch.clusters {
				if inside[name] != nil {
					leads[ls.dispatch] = append(leads[ls.dispatch], name)
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(inside)) {
		if comesBack(inside[name], inside[name], inside, leads, map[*program.Dispatch]bool{}) {
			c := *p.Clusters[name]
			c.Internal, c.Refused = nil, join(c.Refused, errors.New("the internal listener that it leads to leads back to itself"))
			p.Clusters[name] = &c
			g.c.circles = append(g.c.circles, name)
			a := &account{}
			a.refuse("Cluster "+name, c.Refused)
			g.c.ledger.put("circle "+name, a)
		}
	}
}

func comesBack(from, to *program.Dispatch, inside map[string]*program.Dispatch, leads map[*program.Dispatch][]string, seen map[*program.Dispatch]bool) bool {
	if seen[from] {
		return false
	}
	seen[from] = true
	for _, name := range leads[from] {
		if inside[name] == to || comesBack(inside[name], to, inside, leads, seen) {
			return true
		}
	}
	return false
}

// join is errors.Join that keeps a lone error as it is.
func join(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return errors.Join(a, b)
}
