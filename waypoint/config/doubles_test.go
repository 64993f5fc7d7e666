package config

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"github.com/gowaypoint/gowaypoint/telemetry/tracing"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/route"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	netrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
)

// The doubles stand for filters, which other packages compile: they keep what they were given.

type httpDouble struct {
	name   string
	config proto.Message
}

func (d *httpDouble) Name() string                           { return d.name }
func (d *httpDouble) Request(*filter.Exchange) filter.Action { return filter.Continue }

type networkDouble struct {
	name   string
	config proto.Message
}

func (d *networkDouble) Name() string                        { return d.name }
func (d *networkDouble) Connect(*filter.Conn) *filter.Denial { return nil }

const (
	typeHTTPRBAC    = "envoy.extensions.filters.http.rbac.v3.RBAC"
	typeNetworkRBAC = "envoy.extensions.filters.network.rbac.v3.RBAC"
)

func doubles() Options {
	h := func(name string, m proto.Message) (filter.HTTP, error) {
		if r, ok := m.(*rbacv3.RBAC); ok && len(r.GetRules().GetPolicies()) == 0 && r.GetRules() != nil {
			return nil, fmt.Errorf("double: rules without policies")
		}
		return &httpDouble{name, m}, nil
	}
	n := func(name string, m proto.Message) (filter.Network, error) {
		if _, ok := m.(*netrbacv3.RBAC); !ok && m == nil {
			return nil, fmt.Errorf("double: no configuration")
		}
		return &networkDouble{name, m}, nil
	}
	per := func(m proto.Message) (any, error) { return m, nil }
	o := Options{
		Filters: filter.Registry{HTTP: map[string]filter.Compiler[filter.HTTP]{}, Network: map[string]filter.Compiler[filter.Network]{}},
		Routes:  route.Compile,
		AccessLog: func(l []*accesslogv3.AccessLog) ([]filter.AccessLog, []string, error) {
			return make([]filter.AccessLog, len(l)), nil, nil
		},
		Tracer: func(*hcmv3.HttpConnectionManager) (*tracing.Tracer, []string, error) { return nil, nil, nil },
	}
	for _, t := range []string{
		typeHTTPRBAC, "envoy.extensions.filters.http.set_filter_state.v3.Config", "envoy.extensions.filters.http.fault.v3.HTTPFault",
		"envoy.extensions.filters.http.cors.v3.Cors", "stats.PluginConfig", "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
	} {
		o.Filters.HTTP[t] = filter.Compiler[filter.HTTP]{New: h, NewRoute: per}
	}
	for _, t := range []string{typeNetworkRBAC, "envoy.extensions.filters.network.set_filter_state.v3.Config", "stats.PluginConfig"} {
		o.Filters.Network[t] = filter.Compiler[filter.Network]{New: n}
	}
	return o
}

// addJSON enters a resource, given as the JSON of an Any, under its own name.
func addJSON(res *Resources, j []byte) error {
	var a anypb.Any
	if err := protojson.Unmarshal(j, &a); err != nil {
		return err
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		return err
	}
	set := res.Of(a.GetTypeUrl(), true)
	if set == nil {
		return fmt.Errorf("resources of type %s are not compiled", a.GetTypeUrl())
	}
	set[nameOf(m)] = Resource{Raw: a.GetValue()}
	return nil
}

// nameOf is the name that a resource carries in itself.
func nameOf(m proto.Message) string {
	fs := m.ProtoReflect().Descriptor().Fields()
	fd := fs.ByName("name")
	if fd == nil {
		fd = fs.ByName("cluster_name")
	}
	return m.ProtoReflect().Get(fd).String()
}

// samples loads what a real istiod sent.
func samples(t testing.TB) Resources {
	t.Helper()
	var res Resources
	for _, f := range []string{"lds", "cds", "eds"} {
		b, err := os.ReadFile("testdata/" + f + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ Resources []json.RawMessage }
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatal(err)
		}
		for _, r := range doc.Resources {
			if err := addJSON(&res, r); err != nil {
				t.Fatalf("%s: %v", f, err)
			}
		}
	}
	return res
}

// addYAML enters resources of a YAML list.
func addYAML(res *Resources, text string) error {
	j, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(j, &list); err != nil {
		return err
	}
	for _, r := range list {
		if err := addJSON(res, r); err != nil {
			return err
		}
	}
	return nil
}
