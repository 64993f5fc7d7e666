package builtin_test

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/config"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/builtin"
	. "github.com/gowaypoint/gowaypoint/waypoint/filter/filtertest"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
	"github.com/gowaypoint/gowaypoint/waypoint/route"
)

var web = &telemetry.Peer{Workload: "web", Namespace: "shop"}

func registry() (filter.Registry, *metrics.Registry) {
	m := metrics.NewRegistry(metrics.MeshOptions{}, slog.New(slog.DiscardHandler))
	return builtin.Registry(builtin.Dependencies{Stats: m.Stats, Mesh: m.Mesh, Peer: func(a netip.Addr) *telemetry.Peer {
		if a == netip.MustParseAddr("10.0.0.1") {
			return web
		}
		return nil
	}}), m
}

// samples are the resources that a real istiod sent.
func samples(t testing.TB) (res config.Resources) {
	t.Helper()
	for _, f := range []string{"lds", "cds", "eds"} {
		b, err := os.ReadFile("../../config/testdata/" + f + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ Resources []json.RawMessage }
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatal(err)
		}
		for _, j := range doc.Resources {
			var a anypb.Any
			if err := protojson.Unmarshal(j, &a); err != nil {
				t.Fatal(err)
			}
			m, err := a.UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			fields := m.ProtoReflect().Descriptor().Fields()
			name := fields.ByName("name")
			if name == nil {
				name = fields.ByName("cluster_name")
			}
			res.Of(a.GetTypeUrl(), true)[m.ProtoReflect().Get(name).String()] = config.Resource{Raw: a.GetValue()}
		}
	}
	return res
}

func names(chain *program.Chain) string {
	var s []string
	for _, f := range chain.HTTP.Filters {
		s = append(s, f.Name())
	}
	return strings.Join(s, " ")
}

// TestFromTheTunnelToTheVerdict follows a request through the filters of both its chains, as the samples have them: a CONNECT
// to the HBONE port, and inside it requests to a Service of which only GET is allowed, and a connection to its TCP port.
func TestFromTheTunnelToTheVerdict(t *testing.T) {
	filters, m := registry()
	p, report := config.New(config.Options{Filters: filters, Routes: route.Compile}).Compile(samples(t))
	for _, r := range report.Refusals {
		t.Errorf("refused: %s: %s", r.Resource, r.Reason)
	}
	for _, n := range report.Notes {
		t.Errorf("note: %s: %s", n.Resource, n.Text)
	}
	outside := p.Listeners[0].Chain
	if got := names(outside); got != "waypoint_downstream_peer_metadata connect_authority" {
		t.Fatalf("connect_terminate has %s", got)
	}
	inside := p.Clusters["main_internal"].Internal
	if inside == nil {
		t.Fatal("main_internal leads nowhere")
	}

	hbone := filter.Conn{TLS: true, PeerURISAN: Principal, LocalURISAN: "spiffe://cluster.local/ns/shop/sa/waypoint",
		Remote: netip.MustParseAddrPort("10.0.0.1:4321"), Local: netip.MustParseAddrPort("10.0.0.9:15008")}
	tunnel := func(authority string) *filter.Conn {
		own := hbone // each CONNECT has its own
		x := On(&own, "CONNECT", "", ":authority: "+authority)
		for _, f := range outside.HTTP.Filters {
			if f.Request(x) != filter.Continue {
				t.Fatalf("%s stopped the CONNECT", f.Name())
			}
		}
		c := &filter.Conn{ID: 1, Peer: own.Peer}
		x.State.Upstream(&c.State)
		local, _ := c.State.Get(filter.OriginalDstLocal)
		remote, _ := c.State.Get(filter.OriginalDstRemote)
		c.Local, c.Remote = netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote)
		return c
	}
	vip := ""
	inside.Ranges.All(func(prefix netip.Prefix, match *program.PortMatch) {
		if match.Ports[5000] != nil && match.Ports[9000] != nil {
			vip = prefix.Addr().String()
		}
	})
	if vip == "" {
		t.Fatal("no VIP with ports 5000 and 9000")
	}

	c := tunnel(vip + ":5000")
	chain := inside.Lookup("", c.Local).ForProtocol(program.HTTP11)
	if chain.HTTP == nil || !strings.HasPrefix(chain.Name, "inbound-vip|5000|http|") {
		t.Fatalf("port 5000 leads to %q", chain.Name)
	}
	if got := names(chain); got != "envoy.filters.http.rbac envoy.filters.http.grpc_stats envoy.filters.http.fault envoy.filters.http.cors waypoint_upstream_peer_metadata istio.stats" {
		t.Errorf("the chain has %s", got)
	}
	for method, want := range map[string]string{"GET": "", "POST": "rbac_access_denied_matched_policy[none]"} {
		x := On(c, method, "/hello")
		x.Record.Source = c.Peer
		got := ""
		for _, f := range chain.HTTP.Filters {
			if f.Request(x) == filter.Stop {
				got = x.TakeReply().Details
				x.Record.ResponseCode = 403
				break
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", method, got, want)
		}
		for _, f := range chain.HTTP.Filters {
			if f, ok := f.(filter.Finisher); ok {
				f.Finish(x)
			}
		}
	}

	c = tunnel(vip + ":9000")
	chain = inside.Lookup("", c.Local).ForProtocol(program.Unknown)
	denied := ""
	for _, f := range chain.Network {
		if d := f.Connect(c); d != nil {
			denied = d.Details
		}
	}
	if denied != "rbac_access_denied_matched_policy[none]" {
		t.Errorf("TCP: %q", denied)
	}
	if c.Peer != web {
		t.Errorf("the client is %+v", c.Peer)
	}

	var text strings.Builder
	if err := m.WriteProxy(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`source_workload="web"`, `response_code="403"`, `source_principal="` + Principal + `"`,
		"envoy_http_rbac_allowed{} 1\n", "envoy_http_rbac_denied{} 1\n", "envoy_tcp_rbac_denied{} 1\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// Filters that decide who may pass are absent until they do; then the chain that has one is refused.
func TestDecidingFiltersAreAbsentOrWhole(t *testing.T) {
	filters, _ := registry()
	for _, name := range []string{
		"envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
		"envoy.extensions.filters.http.wasm.v3.Wasm", "envoy.extensions.filters.http.lua.v3.Lua",
	} {
		if _, ok := filters.HTTP[name]; ok {
			t.Errorf("%s is in the list", name)
		}
	}
	for name, c := range filters.HTTP {
		if f, err := c.New("n", nil); err == nil {
			t.Errorf("%s compiles a configuration of another type to %T", name, f)
		}
	}
}

// BenchmarkRequest is what the filters of istiod's chain cost a request.
func BenchmarkRequest(b *testing.B) {
	filters, _ := registry()
	p, _ := config.New(config.Options{Filters: filters, Routes: route.Compile}).Compile(samples(b))
	var chain *program.Chain
	p.Clusters["main_internal"].Internal.Ranges.All(func(_ netip.Prefix, match *program.PortMatch) {
		if m := match.Ports[5000]; m != nil {
			chain = m.ForProtocol(program.HTTP11)
		}
	})
	x := New("GET", "/")
	x.Record.ResponseCode, x.Record.Duration = 200, telemetry.Took(time.Millisecond)
	b.ReportAllocs()
	for b.Loop() {
		for _, f := range chain.HTTP.Filters {
			f.Request(x)
		}
		for _, f := range chain.HTTP.Filters {
			if f, ok := f.(filter.Finisher); ok {
				f.Finish(x)
			}
		}
		x.Metadata.Reset()
	}
}
