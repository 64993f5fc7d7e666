package config

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/waypoint/program"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	netrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
)

// mutate flips, cuts, doubles and inserts bytes of one resource.
func mutate(res Resources, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	sets := []Set{res.Listeners, res.Listeners, res.Clusters, res.Endpoints}
	for range 1 + r.IntN(4) {
		set := sets[r.IntN(len(sets))]
		names := slices.Sorted(maps.Keys(set))
		name := names[r.IntN(len(names))]
		b := slices.Clone(set[name].Raw)
		if len(b) == 0 {
			continue
		}
		i := r.IntN(len(b))
		switch r.IntN(4) {
		case 0:
			b[i] ^= 1 << r.IntN(8)
		case 1:
			b = slices.Delete(b, i, min(len(b), i+1+r.IntN(8)))
		case 2:
			b = slices.Insert(b, i, b[i:min(len(b), i+1+r.IntN(32))]...)
		case 3:
			b = slices.Insert(b, i, byte(r.Uint32()))
		}
		set[name] = Resource{Raw: b}
	}
}

// FuzzCompile: whatever bytes come, Compile does not panic, and a chain that serves has an RBAC filter for every one that its
// own bytes still hold.
func FuzzCompile(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed, []byte{})
	}
	base := samples(f)
	f.Fuzz(func(t *testing.T, seed uint64, raw []byte) {
		res := Resources{Listeners: maps.Clone(base.Listeners), Clusters: maps.Clone(base.Clusters), Endpoints: maps.Clone(base.Endpoints)}
		mutate(res, seed)
		if len(raw) > 0 {
			res.Listeners["main_internal"] = Resource{Raw: raw}
			res.Extensions = Set{"x": {Raw: raw}}
		}
		c := New(doubles())
		c.Compile(base)
		p, _ := c.Compile(res)
		checkChains(t, res, c)
		checkUnusable(t, p)
		for typeURL, set := range map[string]Set{TypeListener: res.Listeners, TypeCluster: res.Clusters, TypeEndpoint: res.Endpoints} {
			for name, r := range set {
				if m := newMessage(typeURL); proto.Unmarshal(r.Raw, m) == nil {
					_ = Validate(typeURL, name, m) // only: no panic
				}
			}
		}
	})
}

// checkChains counts RBAC filters in the bytes of each chain and in what was compiled of them.
func checkChains(t *testing.T, res Resources, c *Compiler) {
	for name, r := range res.Listeners {
		_, raws, err := splitListener(r.Raw)
		if err != nil {
			continue
		}
		ls := c.listeners[name]
		if len(ls.chains) < len(raws) && ls.template == nil {
			t.Errorf("listener %s: %d chains of %d", name, len(ls.chains), len(raws))
		}
		for i, raw := range raws {
			fc, err := decodeChain(raw)
			if err != nil || ls.template != nil {
				continue
			}
			out := ls.chains[i].out
			if out.Refused != nil {
				continue
			}
			d := newDecoder()
			wantNet, wantHTTP := 0, 0
			for _, f := range fc.GetFilters() {
				e, _ := d.any(f.GetTypedConfig())
				switch m := e.Message.(type) {
				case *netrbacv3.RBAC:
					wantNet++
				case *hcmv3.HttpConnectionManager:
					for _, hf := range m.GetHttpFilters() {
						if x, _ := d.any(hf.GetTypedConfig()); !hf.GetDisabled() {
							if _, ok := x.Message.(*rbacv3.RBAC); ok {
								wantHTTP++
							}
						}
					}
				}
			}
			gotNet, gotHTTP := 0, 0
			for _, n := range out.Network {
				if _, ok := n.(*networkDouble).config.(*netrbacv3.RBAC); ok {
					gotNet++
				}
			}
			if out.HTTP != nil {
				for _, h := range out.HTTP.Filters {
					if _, ok := h.(*httpDouble).config.(*rbacv3.RBAC); ok {
						gotHTTP++
					}
				}
			}
			if gotNet != wantNet || gotHTTP != wantHTTP {
				t.Errorf("listener %s, chain %q: RBAC filters %d+%d, want %d+%d", name, out.Name, gotNet, gotHTTP, wantNet, wantHTTP)
			}
		}
	}
}

// checkUnusable: what is refused cannot be used by someone who does not look.
func checkUnusable(t *testing.T, p *program.Program) {
	for _, c := range p.Clusters {
		for _, ep := range c.Endpoints {
			if ep.Refused == nil && len(ep.Hops) == 0 || ep.Refused != nil && len(ep.Hops) > 0 {
				t.Errorf("cluster %s, endpoint %s: refused %v with hops %v", c.Name, ep.Display, ep.Refused, ep.Hops)
			}
		}
		if c.Internal == nil || c.Internal.Refused != nil {
			continue
		}
		c.Internal.Ranges.All(func(_ netip.Prefix, m *program.PortMatch) {
			for _, leaf := range m.Ports {
				for _, ch := range []*program.Chain{leaf.Chain, leaf.HTTP10, leaf.HTTP11, leaf.H2C, leaf.Else} {
					if ch == nil {
						continue
					}
					if ch.Refused != nil && (ch.TCP != nil || ch.HTTP != nil && ch.HTTP.Routes != nil) {
						t.Errorf("chain %q is refused and could serve", ch.Name)
					}
					if ch.Refused == nil && ch.TCP == nil && ch.HTTP == nil {
						t.Errorf("chain %q neither serves nor refuses", ch.Name)
					}
				}
			}
		})
	}
}
