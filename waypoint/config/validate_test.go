package config

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"
)

func TestSamplesAreValid(t *testing.T) {
	res := samples(t)
	for _, typeURL := range []string{TypeListener, TypeCluster, TypeEndpoint} {
		for name, r := range res.Of(typeURL, false) {
			m := newMessage(typeURL)
			if _, err := decode(r, m); err != nil {
				t.Fatal(err)
			}
			if err := Validate(typeURL, name, m); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Each case is a resource and the problems that it has.
func TestBadResources(t *testing.T) {
	const (
		hcm = `"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`
		l   = `{"@type": type.googleapis.com/envoy.config.listener.v3.Listener, name: res, `
		c   = `{"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: res, `
		e   = `{"@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: res, `
	)
	for _, tc := range []struct{ in, want string }{
		{l + `internal_listener: {}}`, "filter_chains: there is none"},
		{l + `filter_chains: [{filters: [{name: a}]}]}`, "address: is missing; only an internal_listener has none"},
		{l + `internal_listener: {}, filter_chains: [{name: a}]}`, "filter_chains[0].filters: there is none"},
		{
			l + `address: {socket_address: {address: nowhere, port_value: 1}}, filter_chains: [{filters: [{name: a}]}]}`,
			`address.socket_address.address: "nowhere" is not an IP address`,
		},
		{
			l + `address: {socket_address: {address: 1.2.3.4, port_value: 70000}}, filter_chains: [{filters: [{name: a}]}]}`,
			"address.socket_address.port_value: 70000 is not a port|address.socket_address.port_value: value must be less than or equal to 65535",
		},
		{
			l + `internal_listener: {}, filter_chain_matcher: {}, filter_chains: [{name: a, filters: [{name: a}]}, {name: a, filters: [{name: a}]}, {filters: [{name: a}]}]}`,
			`filter_chains[1].name: "a" is there twice|filter_chains[2].name: is empty; filter_chain_matcher could not choose it`,
		},
		{
			l + `internal_listener: {}, filter_chains: [{filters: [{name: h, typed_config: {` + hcm + `, stat_prefix: x}}]}]}`,
			"filter_chains[0].filters[0].typed_config.route_specifier: value is required",
		},
		{
			l + `internal_listener: {}, filter_chains: [{filters: [{name: h, typed_config: {` + hcm + `, stat_prefix: x, route_config: {virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {safe_regex: {regex: "a("}}, route: {cluster: c}}]}]}}}]}]}`,
			"filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].match.safe_regex.regex: error parsing regexp: missing closing ): `a(`",
		},
		{
			l + `internal_listener: {}, filter_chains: [{filters: [{name: h, typed_config: {` + hcm + `, codec_type: 77, stat_prefix: x, route_config: {}}}]}]}`,
			"filter_chains[0].filters[0].typed_config.codec_type: value must be one of the defined enum values",
		},
		{
			l + `internal_listener: {}, filter_chains: [{filters: [{name: h, typed_config: {"@type": type.googleapis.com/udpa.type.v1.TypedStruct, type_url: type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, value: {stat_prefix: 3}}}]}]}`,
			"filter_chains[0].filters[0].typed_config: TypedStruct of envoy.extensions.filters.network.rbac.v3.RBAC: *",
		},
		{c + `type: EDS}`, "eds_cluster_config.eds_config: is missing; type EDS needs it"},
		{c + `lb_policy: CLUSTER_PROVIDED}`, "lb_policy: CLUSTER_PROVIDED goes with type ORIGINAL_DST and with no other"},
		{c + `type: ORIGINAL_DST}`, "lb_policy: CLUSTER_PROVIDED goes with type ORIGINAL_DST and with no other"},
		{c + `type: 99}`, "type: value must be one of the defined enum values"},
		{
			c + `load_assignment: {cluster_name: res, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: a.b, port_value: 1}}}}]}]}}`,
			`load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: "a.b" is not an IP address`,
		},
		{c + `type: STRICT_DNS, load_assignment: {cluster_name: res, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: a.b, port_value: 1}}}}]}]}}`, ""},
		{
			e + `endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: a.b, port_value: 1}}}}]}]}`,
			`endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: "a.b" is not an IP address`,
		},
		{e + `endpoints: [{priority: 200}]}`, "endpoints[0].priority: value must be less than or equal to 128"},
	} {
		j, err := yaml.YAMLToJSON([]byte(tc.in))
		if err != nil {
			t.Fatalf("%s: %v", tc.in, err)
		}
		var a anypb.Any
		if err := protojson.Unmarshal(j, &a); err != nil {
			t.Fatalf("%s: %v", tc.in, err)
		}
		m, err := a.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range Problems(Validate(a.GetTypeUrl(), "res", m)) {
			got = append(got, p.Error())
		}
		slices.Sort(got)
		text := strings.Join(got, "|")
		if want, open := strings.CutSuffix(tc.want, "*"); text != want && (!open || !strings.HasPrefix(text, want)) {
			t.Errorf("%s\n got %s\nwant %s", tc.in, text, tc.want)
		}
	}
}

func TestNamesMustAgree(t *testing.T) {
	res := samples(t)
	m, err := decodeCluster(res.Clusters["encap"])
	if err != nil {
		t.Fatal(err)
	}
	if err := Validate(TypeCluster, "other", m); err == nil || !strings.Contains(err.Error(), `is called "encap" in itself`) {
		t.Error(err)
	}
	if err := Validate(TypeListener, "encap", m); err == nil || !strings.Contains(err.Error(), "is a envoy.config.cluster.v3.Cluster") {
		t.Error(err)
	}
	if err := Validate(TypeCluster, "x", nil); err == nil {
		t.Error("nothing is valid")
	}
}
