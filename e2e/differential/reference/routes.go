package reference

import (
	"fmt"
	"strconv"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	envoymatcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// routeFile is a file of routes: one per set, named by its index, and one that tells the generation.
func routeFile(sets []*pair.Set, generation int) ([]byte, error) {
	routes := map[string]*xdsmatcherv3.Matcher_OnMatch{}
	add := func(name string, r *routev3.Route) error {
		r.Match = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}}
		r.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 200}}
		a, err := anypb.New(r)
		routes[name] = &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{
			Action: &xdscorev3.TypedExtensionConfig{Name: "route", TypedConfig: a},
		}}
		return err
	}
	for i, s := range sets {
		r := &routev3.Route{Metadata: &corev3.Metadata{FilterMetadata: pair.RouteMetadata()}, TypedPerFilterConfig: map[string]*anypb.Any{}}
		for k := range s.Filters {
			a, err := anypb.New(&httpv3.RBACPerRoute{Rbac: s.HTTP(k)})
			if err != nil {
				return nil, err
			}
			r.TypedPerFilterConfig[filterName(k)] = a
		}
		if err := add(strconv.Itoa(i), r); err != nil {
			return nil, err
		}
	}
	if err := add(fmt.Sprint(generationName, generation), &routev3.Route{}); err != nil {
		return nil, err
	}
	input, err := anypb.New(&envoymatcherv3.HttpRequestHeaderMatchInput{HeaderName: pair.SetHeader})
	if err != nil {
		return nil, err
	}
	config, err := anypb.New(&routev3.RouteConfiguration{Name: "routes", VirtualHosts: []*routev3.VirtualHost{{
		Name: "all", Domains: []string{"*"},
		Matcher: &xdsmatcherv3.Matcher{MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: &xdsmatcherv3.Matcher_MatcherTree{
			Input:    &xdscorev3.TypedExtensionConfig{Name: "set", TypedConfig: input},
			TreeType: &xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: routes}},
		}}},
	}}})
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&discoveryv3.DiscoveryResponse{VersionInfo: strconv.Itoa(generation), Resources: []*anypb.Any{config}})
}
