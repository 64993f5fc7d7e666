package setfilterstate_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/telemetry/format"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	. "github.com/gowaypoint/gowaypoint/waypoint/filter/filtertest"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/setfilterstate"

	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
)

// connectAuthority is what istiod sends for connect_terminate.
const connectAuthority = `{"on_request_headers":[
	{"object_key":"envoy.filters.listener.original_dst.local_ip","format_string":{"text_format_source":{"inline_string":"%REQ(:AUTHORITY)%"}},"shared_with_upstream":"ONCE"},
	{"object_key":"io.istio.connect_authority","factory_key":"istio.hashable_string","format_string":{"text_format_source":{"inline_string":"%REQ(:AUTHORITY)%"}},"shared_with_upstream":"ONCE"},
	{"object_key":"envoy.filters.listener.original_dst.remote_ip","format_string":{"text_format_source":{"inline_string":"%DOWNSTREAM_REMOTE_ADDRESS%"}},"shared_with_upstream":"ONCE"},
	{"object_key":"io.istio.peer_principal","factory_key":"istio.hashable_string","format_string":{"text_format_source":{"inline_string":"%DOWNSTREAM_PEER_URI_SAN%"}},"shared_with_upstream":"ONCE"},
	{"object_key":"io.istio.local_principal","factory_key":"istio.hashable_string","format_string":{"text_format_source":{"inline_string":"%DOWNSTREAM_LOCAL_URI_SAN%"}},"shared_with_upstream":"ONCE"}]}`

func hboneConn() *filter.Conn {
	return &filter.Conn{
		ID: 3, Local: netip.MustParseAddrPort("10.0.0.9:15008"), Remote: netip.MustParseAddrPort("10.0.0.1:4321"),
		TLS: true, PeerURISAN: Principal, LocalURISAN: "spiffe://cluster.local/ns/shop/sa/waypoint",
	}
}

func compileHTTP(t *testing.T, config string) filter.HTTP {
	t.Helper()
	return Build(t, setfilterstate.HTTP(format.Options{}), "connect_authority", Parse(t, &httpv3.Config{}, config))
}

func expect(t *testing.T, s interface{ Get(string) (string, bool) }, want map[string]string) {
	t.Helper()
	for key, w := range want {
		got, ok := s.Get(key)
		if w == "absent" {
			if ok {
				t.Errorf("%s is %q, want it absent", key, got)
			}
		} else if got != w {
			t.Errorf("%s is %q (%v), want %q", key, got, ok, w)
		}
	}
}

func TestConnectAuthority(t *testing.T) {
	f := compileHTTP(t, connectAuthority)
	x := On(hboneConn(), "CONNECT", "", ":authority: 10.96.0.10:80")
	if f.Request(x) != filter.Continue {
		t.Fatal("not continued")
	}
	want := map[string]string{
		filter.OriginalDstLocal: "10.96.0.10:80", filter.AuthorityKey: "10.96.0.10:80", filter.OriginalDstRemote: "10.0.0.1:4321",
		filter.PeerPrincipalKey: Principal, filter.LocalPrincipalKey: "spiffe://cluster.local/ns/shop/sa/waypoint",
	}
	expect(t, &x.State, want)
	if x.Record.PeerPrincipal != Principal {
		t.Errorf("the record's principal is %q", x.Record.PeerPrincipal)
	}
	if _, ok := x.Conn.State.Get(filter.AuthorityKey); ok {
		t.Error("the authority of one stream was written to the connection of all")
	}
	// ONCE: the tunnel has them, the connection behind it does not.
	var inside, behind filter.State
	x.State.Upstream(&inside)
	expect(t, &inside, want)
	inside.Upstream(&behind)
	expect(t, &behind, map[string]string{filter.OriginalDstLocal: "absent", filter.PeerPrincipalKey: "absent"})
}

func TestAuthorities(t *testing.T) {
	f := compileHTTP(t, connectAuthority)
	for authority, address := range map[string]string{
		"shop.example:80": "absent", "10.0.0.1": "absent", "10.0.0.1:": "absent", "10.0.0.1:99999": "absent", "[fe80::1%eth0]:80": "absent",
		"10.0.0.1:080": "absent", "10.0.0.1:0": "10.0.0.1:0", "[FD00:0::1]:80": "[fd00::1]:80", "[::ffff:10.0.0.1]:80": "[::ffff:10.0.0.1]:80",
	} {
		x := On(hboneConn(), "CONNECT", "", ":authority: "+authority)
		f.Request(x)
		expect(t, &x.State, map[string]string{filter.OriginalDstLocal: address, filter.AuthorityKey: authority})
	}
}

// Envoy would set "-", which matches principals ["*"].
func TestAbsentPrincipalIsNotSet(t *testing.T) {
	f := compileHTTP(t, connectAuthority)
	c := hboneConn()
	c.PeerURISAN = ""
	x := On(c, "CONNECT", "", ":authority: 10.96.0.10:80")
	x.State.Set(filter.PeerPrincipalKey, "left by an earlier filter", filter.Once)
	f.Request(x)
	expect(t, &x.State, map[string]string{filter.PeerPrincipalKey: "absent"})

	c.State.Set(filter.PeerPrincipalKey, "left by the outside", filter.NotShared)
	x = On(c, "CONNECT", "", ":authority: 10.96.0.10:80")
	f.Request(x)
	if v, _ := x.FilterState(filter.PeerPrincipalKey); v != "" || x.Record.PeerPrincipal != "" {
		t.Errorf("the principal is %q, the record's %q", v, x.Record.PeerPrincipal)
	}
}

func TestSkipIfEmptyAndClearRoute(t *testing.T) {
	f := compileHTTP(t, `{"clear_route_cache":true,"on_request_headers":[
		{"object_key":"k","factory_key":"envoy.string","format_string":{"text_format_source":{"inline_string":"%REQ(a)%"}}},
		{"object_key":"k","factory_key":"envoy.string","skip_if_empty":true,"format_string":{"text_format_source":{"inline_string":"%REQ(b)%"},"omit_empty_values":true}},
		{"object_key":"both","factory_key":"envoy.hashable_string","format_string":{"text_format":"%REQ(a)%/%REQ(b)%"}}]}`)
	x := New("GET", "/", "a: 1")
	cleared := false
	x.ClearRoute = func() { cleared = true }
	f.Request(x)
	expect(t, &x.State, map[string]string{"k": "1", "both": "1/-"})
	x = New("GET", "/", "a: 1", "b: 2")
	f.Request(x)
	expect(t, &x.State, map[string]string{"k": "2", "both": "1/2"})
	if !cleared {
		t.Error("clear_route_cache had no effect")
	}
}

func TestNetwork(t *testing.T) {
	build := func(config string) filter.Network {
		return Build(t, setfilterstate.Network(format.Options{}), "connect_authority", Parse(t, &networkv3.Config{}, config))
	}
	// direct-tcp shares the original destination anew.
	f := build(`{"on_new_connection":[{"object_key":"envoy.filters.listener.original_dst.local_ip","shared_with_upstream":"ONCE",
		"format_string":{"text_format_source":{"inline_string":"%FILTER_STATE(envoy.filters.listener.original_dst.local_ip:PLAIN)%"}}}]}`)
	c := &filter.Conn{}
	c.State.Set(filter.OriginalDstLocal, "10.0.0.5:9000", filter.NotShared)
	for range 2 {
		if f.Connect(c) != nil {
			t.Fatal("denied")
		}
	}
	var up filter.State
	c.State.Upstream(&up)
	expect(t, &up, map[string]string{filter.OriginalDstLocal: "10.0.0.5:9000"})

	// Multi-network: the address, unless the authority was a host name.
	f = build(`{"on_new_connection":[{"object_key":"envoy.network.transport_socket.original_dst_address","shared_with_upstream":"ONCE","format_string":{
		"text_format_source":{"inline_string":"%CEL('envoy.filters.listener.original_dst.local_ip' in filter_state ? filter_state['envoy.filters.listener.original_dst.local_ip']: r'240.240.0.1:80')%"}}}]}`)
	f.Connect(c)
	expect(t, &c.State, map[string]string{"envoy.network.transport_socket.original_dst_address": "10.0.0.5:9000"})
	c = &filter.Conn{}
	f.Connect(c)
	expect(t, &c.State, map[string]string{"envoy.network.transport_socket.original_dst_address": "240.240.0.1:80"})
}

func TestRefused(t *testing.T) {
	for config, want := range map[string]string{
		`{"on_request_headers":[{"object_key":"my.key","format_string":{"text_format":"x"}}]}`:                                                  "on_request_headers[0].object_key",
		`{"on_request_headers":[{"object_key":"my.key","factory_key":"envoy.tcp_proxy.cluster","format_string":{"text_format":"x"}}]}`:          "on_request_headers[0].factory_key",
		`{"on_request_headers":[{"object_key":"envoy.tcp_proxy.cluster","format_string":{"text_format":"x"}}]}`:                                 "object_key",
		`{"on_request_headers":[{"object_key":"k","factory_key":"envoy.string","format_string":{"json_format":{"a":"b"}}}]}`:                    "json_format",
		`{"on_request_headers":[{"object_key":"k","factory_key":"envoy.string","format_string":{"text_format":"%NO_SUCH%"}}]}`:                  "NO_SUCH",
		`{"on_request_headers":[{"object_key":"k","factory_key":"envoy.string","format_string":{"text_format":"%CEL(request.pth)%"}}]}`:         "CEL",
		`{"on_request_headers":[{"object_key":"k","factory_key":"envoy.string"}]}`:                                                              "format_string",
		`{"on_request_headers":[{"object_key":"k","factory_key":"envoy.string","format_string":{"text_format_source":{"filename":"/etc/x"}}}]}`: "inline_string",
	} {
		_, err := setfilterstate.HTTP(format.Options{Report: func(string) {}}).New("n", Parse(t, &httpv3.Config{}, config))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngives error %v, want %q in it", config, err, want)
		}
	}
	if _, err := setfilterstate.Network(format.Options{}).New("n", Parse(t, &networkv3.Config{}, `{"on_downstream_data":[{"object_key":"k"}]}`)); err == nil {
		t.Error("on_downstream_data compiled")
	}
}
