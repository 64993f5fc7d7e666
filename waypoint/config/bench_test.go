package config

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// mesh makes n services out of the sample's: each has one HTTP port, a chain, a cluster and two endpoints.
func mesh(tb testing.TB, n int) Resources {
	tb.Helper()
	res := samples(tb)
	const host = "helloworld.default.svc.cluster.local"
	rest, chains, err := splitListener(res.Listeners["main_internal"].Raw)
	if err != nil {
		tb.Fatal(err)
	}
	var chain *listenerv3.FilterChain
	for _, raw := range chains {
		if chainName(raw) == hello5000 {
			chain, err = decodeChain(raw)
		}
	}
	if err != nil || chain == nil {
		tb.Fatal("no chain", err)
	}
	ips := &matcherv3.IPMatcher{}
	custom := rest.GetFilterChainMatcher().GetMatcherTree().GetCustomMatch()
	if err := custom.GetTypedConfig().UnmarshalTo(ips); err != nil {
		tb.Fatal(err)
	}
	one := ips.RangeMatchers[0]
	ips.RangeMatchers = nil
	cluster, cla := res.Clusters[hello5000].Raw, res.Endpoints[hello5000].Raw
	var out []byte
	for i := range n {
		other := fmt.Sprintf("hellow%04d.default.svc.cluster.local", i) // as long as the original: lengths stay right
		if len(other) != len(host) {
			tb.Fatal("a name of another length")
		}
		swap := func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), host, other)) }
		name := strings.ReplaceAll(hello5000, host, other)
		c, err := proto.Marshal(chain)
		if err != nil {
			tb.Fatal(err)
		}
		out = protowire.AppendBytes(protowire.AppendTag(out, chainsField, protowire.BytesType), swap(c))
		res.Clusters[name] = Resource{Raw: swap(cluster)}
		res.Endpoints[name] = Resource{Raw: swap(cla)}
		m := proto.Clone(one).(*matcherv3.IPMatcher_IPRangeMatcher)
		m.Ranges = []*xdscorev3.CidrRange{{AddressPrefix: fmt.Sprintf("10.%d.%d.1", 97+i/250, i%250), PrefixLen: wrapperspb.UInt32(32)}}
		action, err := anypb.New(wrapperspb.String(name))
		if err != nil {
			tb.Fatal(err)
		}
		ports := m.GetOnMatch().GetMatcher().GetMatcherTree().GetExactMatchMap()
		ports.Map = map[string]*matcherv3.Matcher_OnMatch{"5000": {OnMatch: &matcherv3.Matcher_OnMatch_Action{
			Action: &xdscorev3.TypedExtensionConfig{Name: name, TypedConfig: action},
		}}}
		ips.RangeMatchers = append(ips.RangeMatchers, m)
	}
	if custom.TypedConfig, err = anypb.New(ips); err != nil {
		tb.Fatal(err)
	}
	head, err := proto.Marshal(rest)
	if err != nil {
		tb.Fatal(err)
	}
	res.Listeners["main_internal"] = Resource{Raw: append(head, out...)}
	return res
}

func TestMeshCompiles(t *testing.T) {
	p, rep := New(doubles()).Compile(mesh(t, 300))
	if len(rep.Refusals) > 0 || len(p.Clusters) < 300 {
		t.Errorf("%d clusters, refused: %v", len(p.Clusters), rep.Refusals)
	}
	if m := chainsOf(p); len(m) != 300 {
		t.Errorf("%d chains", len(m))
	}
}

func BenchmarkFirst(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			res := mesh(b, n)
			b.ResetTimer()
			var keep []any
			for range b.N {
				runtime.GC()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				c := New(doubles())
				p, _ := c.Compile(res)
				b.StopTimer()
				runtime.GC()
				runtime.ReadMemStats(&after)
				keep = append(keep[:0], c, p)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "heapB/service")
				b.StartTimer()
			}
			runtime.KeepAlive(keep)
		})
	}
}

func BenchmarkOneEndpoint(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			res := mesh(b, n)
			c := New(doubles())
			c.Compile(res)
			name := strings.ReplaceAll(hello5000, "helloworld", "hellow0007")
			two := res.Endpoints[name]
			b.ResetTimer()
			for i := range b.N {
				res.Endpoints[name] = Resource{Raw: two.Raw[:len(two.Raw)*(i%2)]}
				c.CompileChanged(res, Changes{TypeEndpoint: {name}})
			}
		})
	}
}

func BenchmarkOneEndpointUnsaid(b *testing.B) {
	res := mesh(b, 10000)
	c := New(doubles())
	c.Compile(res)
	b.ResetTimer()
	for range b.N {
		c.Compile(res)
	}
}

func BenchmarkOneChain(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			res := mesh(b, n)
			c := New(doubles())
			c.Compile(res)
			raw := res.Listeners["main_internal"].Raw
			other := []byte(strings.Replace(string(raw), "allow-get", "allow-put", 1))
			b.ResetTimer()
			for i := range b.N {
				if i%2 == 0 {
					res.Listeners["main_internal"] = Resource{Raw: other}
				} else {
					res.Listeners["main_internal"] = Resource{Raw: raw}
				}
				c.Compile(res)
			}
		})
	}
}
