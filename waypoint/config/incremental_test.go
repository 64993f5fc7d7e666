package config

import (
	"net/netip"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/waypoint/program"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

const hello5000 = "inbound-vip|5000|http|helloworld.default.svc.cluster.local"

// edit decodes a resource, changes it and puts it back.
func edit[T proto.Message](t testing.TB, set Set, name string, into T, change func(T)) {
	t.Helper()
	if err := proto.Unmarshal(set[name].Raw, into); err != nil {
		t.Fatal(err)
	}
	change(into)
	raw, err := proto.Marshal(into)
	if err != nil {
		t.Fatal(err)
	}
	set[name] = Resource{Raw: raw}
}

// changed names the clusters that are not the same pointers.
func changed(a, b *program.Program) []string {
	var out []string
	for name, c := range b.Clusters {
		if a.Clusters[name] != c {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func chainsOf(p *program.Program) map[string]*program.Chain {
	out := map[string]*program.Chain{}
	p.Clusters["main_internal"].Internal.Ranges.All(func(_ netip.Prefix, m *program.PortMatch) {
		for _, leaf := range m.Ports {
			for _, c := range []*program.Chain{leaf.Chain, leaf.H2C, leaf.Else} {
				if c != nil {
					out[c.Name] = c
				}
			}
		}
	})
	return out
}

func TestNothingChanged(t *testing.T) {
	c := New(doubles())
	a, first := c.Compile(samples(t))
	b, second := c.Compile(samples(t)) // other slices, the same bytes
	if d := changed(a, b); len(d) > 0 || a.Listeners[0] != b.Listeners[0] {
		t.Errorf("rebuilt: %v", d)
	}
	if first.Counts != second.Counts {
		t.Errorf("census: %v, then %v", first.Counts, second.Counts)
	}
	if b.Version != a.Version+1 {
		t.Errorf("versions %d, %d", a.Version, b.Version)
	}
}

func TestOneEndpointChanged(t *testing.T) {
	c := New(doubles())
	res := samples(t)
	a, _ := c.Compile(res)
	edit(t, res.Endpoints, hello5000, &endpointv3.ClusterLoadAssignment{}, func(m *endpointv3.ClusterLoadAssignment) {
		m.Endpoints[0].LbEndpoints = m.Endpoints[0].LbEndpoints[:1]
	})
	b, _ := c.Compile(res)
	if d := changed(a, b); !slices.Equal(d, []string{hello5000}) {
		t.Errorf("rebuilt: %v", d)
	}
	if len(a.Clusters[hello5000].Endpoints) != 2 || len(b.Clusters[hello5000].Endpoints) != 1 {
		t.Error("the endpoint is not gone, or is gone from the old program, too")
	}
	if a.Listeners[0] != b.Listeners[0] {
		t.Error("the listener was rebuilt")
	}
}

func TestEndpointsArriveAndGo(t *testing.T) {
	c := New(doubles())
	res := samples(t)
	cla := res.Endpoints[hello5000]
	delete(res.Endpoints, hello5000)
	p, _ := c.Compile(res)
	if p.Clusters[hello5000].Warm {
		t.Error("warm without endpoints")
	}
	res.Endpoints[hello5000] = cla
	if p, _ = c.Compile(res); !p.Clusters[hello5000].Warm || len(p.Clusters[hello5000].Endpoints) != 2 {
		t.Error("not warm with endpoints")
	}
	res.Endpoints[hello5000] = Resource{Raw: []byte{}} // an empty assignment takes the place of a removal
	if p, _ = c.Compile(res); !p.Clusters[hello5000].Warm || len(p.Clusters[hello5000].Endpoints) != 0 {
		t.Error("an empty assignment is one")
	}
}

func TestOneChainChanged(t *testing.T) {
	c := New(doubles())
	res := samples(t)
	a, _ := c.Compile(res)
	edit(t, res.Listeners, "main_internal", &listenerv3.Listener{}, func(l *listenerv3.Listener) {
		for _, fc := range l.FilterChains {
			if fc.GetName() == hello5000 {
				fc.Filters[0].Name = "renamed"
			}
		}
	})
	b, _ := c.Compile(res)
	if d := changed(a, b); !slices.Equal(d, []string{"main_internal"}) {
		t.Errorf("clusters rebuilt: %v", d)
	}
	before, after := chainsOf(a), chainsOf(b)
	for name := range after {
		if (before[name] == after[name]) == (name == hello5000) {
			t.Errorf("chain %s: same pointer %v", name, before[name] == after[name])
		}
	}
	if len(after) != 5 {
		t.Errorf("%d chains", len(after))
	}
}

// A change of what paths go through rebuilds all clusters whose endpoints go that way.
func TestPathChanged(t *testing.T) {
	c := New(doubles())
	res := samples(t)
	a, _ := c.Compile(res)
	edit(t, res.Clusters, "connect_originate", &clusterv3.Cluster{}, func(m *clusterv3.Cluster) {
		m.GetOriginalDstLbConfig().UpstreamPortOverride.Value = 15009
	})
	b, _ := c.Compile(res)
	want := []string{
		"connect_originate", "encap", hello5000,
		"inbound-vip|7000|http|helloworld.default.svc.cluster.local", "inbound-vip|9000|tcp|helloworld.default.svc.cluster.local",
	}
	if d := changed(a, b); !slices.Equal(d, want) {
		t.Errorf("rebuilt: %v", d)
	}
	if got := b.Clusters[hello5000].Endpoints[0].Hops[0].Dial; got != "10.244.0.2:15009" {
		t.Errorf("dials %s", got)
	}
	edit(t, res.Listeners, "connect_originate", &listenerv3.Listener{}, func(l *listenerv3.Listener) { l.FilterChains[0].Filters[0].Name = "x" })
	if d := changed(b, first(c.Compile(res))); len(d) != 4 {
		t.Errorf("rebuilt: %v", d)
	}
}

func first(p *program.Program, _ *Report) *program.Program { return p }

func TestRemovedResourcesAreForgotten(t *testing.T) {
	c := New(doubles())
	res := samples(t)
	c.Compile(res)
	delete(res.Clusters, hello5000)
	delete(res.Listeners, "connect_originate")
	p, _ := c.Compile(res)
	if p.Clusters[hello5000] != nil || slices.Contains(c.EDSNames(), hello5000) {
		t.Error("the cluster is still there")
	}
	if ep := p.Clusters["inbound-vip|9000|tcp|helloworld.default.svc.cluster.local"].Endpoints[0]; ep.Refused == nil || len(ep.Hops) > 0 {
		t.Error("the endpoint still has a way")
	}
	if p, _ = c.Compile(Resources{}); len(p.Clusters)+len(p.Listeners) != 0 || len(c.SecretNames()) != 0 {
		t.Error("something is left")
	}
}

func TestNames(t *testing.T) {
	c := New(doubles())
	c.Compile(samples(t))
	if n := c.EDSNames(); len(n) != 5 {
		t.Errorf("EDS names %v", n)
	}
	if n := c.SecretNames(); !slices.Equal(n, []Secret{{"ROOTCA", false}, {"default", false}}) {
		t.Errorf("secrets %v", n)
	}
	if len(c.ECDSNames())+len(c.RDSNames()) != 0 {
		t.Error("istiod asks for no ECDS and RDS here")
	}
}
