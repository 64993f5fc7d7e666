package config

import (
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/builtin"

	xdstype "github.com/cncf/xds/go/udpa/type/v1"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// typed is a configuration of a type, whatever is in it.
func typed(t *testing.T, name string) *anypb.Any {
	t.Helper()
	return pack(t, &xdstype.TypedStruct{TypeUrl: "type.googleapis.com/" + name, Value: &structpb.Struct{}})
}

func refusal(t *testing.T, fs ...*hcmv3.HttpFilter) error {
	t.Helper()
	hcm := &hcmv3.HttpConnectionManager{
		StatPrefix:     "x",
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{Name: "r"}},
		HttpFilters: append(fs, &hcmv3.HttpFilter{Name: "router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(t, &routerv3.Router{})}}),
	}
	opt := doubles()
	opt.Filters = builtin.Registry(builtin.Dependencies{Stats: &metrics.Stats{}, Mesh: &metrics.Mesh{},
		Peer: func(netip.Addr) *telemetry.Peer { return nil }})
	ch := compileChain(&opt, &Resources{}, newCensus(), &listenerv3.FilterChain{Name: "c", Filters: []*listenerv3.Filter{
		{Name: "hcm", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, hcm)}}}})
	return ch.out.Refused
}

// A filter that is not there refuses its chain, and is_optional changes nothing about that: it could be what denies.
func TestOptionalIsNoExcuse(t *testing.T) {
	if err := refusal(t); err != nil {
		t.Fatal(err)
	}
	types := []string{"example.com.unknown.Filter"}
	for name, r := range lines(t).types {
		if r.class == Refused && strings.HasPrefix(name, "envoy.extensions.filters.http.") {
			types = append(types, name)
		}
	}
	for _, name := range types {
		err := refusal(t, &hcmv3.HttpFilter{Name: "f", IsOptional: true, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: typed(t, name)}})
		if err == nil || !strings.Contains(err.Error(), name+" is not supported") {
			t.Errorf("%s: %v", name, err)
		}
	}
	inert := "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig"
	if err := refusal(t, &hcmv3.HttpFilter{Name: "f", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: typed(t, inert)}}); err != nil {
		t.Errorf("%s: %v", inert, err)
	}
}

// What the table calls refused as a whole is not among the filters that are there.
func TestRefusedTypesAreNotBuiltIn(t *testing.T) {
	r := builtin.Registry(builtin.Dependencies{})
	for name, line := range lines(t).types {
		_, http := r.HTTP[name]
		_, network := r.Network[name]
		if (http || network) && line.class == Refused {
			t.Errorf("%s is built in by now: replace its line by one per field", name)
		}
	}
}
