package controlplane

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// maxDirectBody is what istiod allows for direct responses of its default route.
const maxDirectBody = 1 << 20

// serviceRoutes are those of the HTTPRoutes for a port, or one route to the service when there are none.
func (b *builder) serviceRoutes(name string, s *manifests.Service, p *manifests.Port) *routev3.RouteConfiguration {
	var candidates []candidate
	found := false
	for _, r := range b.mesh.Routes {
		for _, parent := range r.Parents {
			if parent.Namespace == s.Namespace && parent.Name == s.Name && (parent.Port == 0 || parent.Port == p.Number) {
				found = true
				candidates = append(candidates, b.candidates(r, s, p)...)
				break
			}
		}
	}
	if !found {
		return b.routeConfig(name, p.Number, []*routev3.Route{b.defaultRoute(name, s.Host(), p.Number)}, true)
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return -slices.Compare(a.rank, b.rank) })
	var routes []*routev3.Route
	for _, c := range candidates {
		routes = append(routes, c.route)
	}
	return b.routeConfig(name, p.Number, routes, false)
}

func (b *builder) routeConfig(name string, port uint16, routes []*routev3.Route, byDefault bool) *routev3.RouteConfiguration {
	rc := &routev3.RouteConfiguration{Name: name, ValidateClusters: wrapperspb.Bool(false), VirtualHosts: []*routev3.VirtualHost{{
		Name: fmt.Sprintf("inbound|http|%d", port), Domains: []string{"*"}, Routes: routes,
	}}}
	if byDefault {
		rc.MaxDirectResponseBodySizeBytes = wrapperspb.UInt32(maxDirectBody)
	}
	return rc
}

func operation(host string, port uint16) *routev3.Decorator {
	return &routev3.Decorator{Operation: fmt.Sprintf("%s:%d/*", host, port)}
}

func (b *builder) defaultRoute(cluster, host string, port uint16) *routev3.Route {
	return &routev3.Route{
		Name: "default", Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}, Decorator: operation(host, port),
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}, Timeout: durationpb.New(0), RetryPolicy: b.retries(),
			MaxGrpcTimeout: durationpb.New(0), //nolint:staticcheck // deprecated, and what istiod sends
		}},
	}
}

// retries is Istio's default: twice, what surely has not been processed, at another endpoint.
func (b *builder) retries() *routev3.RetryPolicy {
	return &routev3.RetryPolicy{
		RetryOn: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", NumRetries: wrapperspb.UInt32(2),
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: b.any(&previousv3.PreviousHostsPredicate{})},
		}},
		HostSelectionRetryMaxAttempts: 5,
	}
}

// candidate is a route with its rank among those of all HTTPRoutes: Exact before PathPrefix before RegularExpression, longer
// paths first, then a method, then more headers, then more query parameters (Gateway API, HTTPRouteRule.matches).
type candidate struct {
	rank  []int
	route *routev3.Route
}

func (b *builder) candidates(r *manifests.Route, s *manifests.Service, p *manifests.Port) []candidate {
	var out []candidate
	for i, rule := range r.Rules {
		for _, m := range rule.Matches {
			route := &routev3.Route{
				Name: cmp.Or(rule.Name, fmt.Sprintf("%s.%s.%d", r.Namespace, r.Name, i)), Match: match(&m), Decorator: operation(s.Host(), p.Number),
				Metadata: b.istioMetadata(map[string]any{"config": fmt.Sprintf(
					"/apis/networking.istio.io/v1/namespaces/%s/virtual-service/%s~%d~%s", r.Namespace, r.Namespace, p.Number, s.Host())}),
			}
			b.action(route, &rule, &m)
			out = append(out, candidate{rank(&m), route})
		}
	}
	return out
}

func rank(m *manifests.Match) []int {
	kind, length, method := 0, 0, 0
	if m.Path != nil {
		kind, length = map[string]int{"Exact": 3, "PathPrefix": 2, "RegularExpression": 1}[m.Path.Type], len(m.Path.Value)
	}
	if m.Method != "" {
		method = 1
	}
	if kind == 2 && length == 1 {
		kind = 0 // "/" is everything
	}
	return []int{kind, length, method, len(m.Headers), len(m.Query)}
}

func match(m *manifests.Match) *routev3.RouteMatch {
	out := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
	if p := m.Path; p != nil {
		switch {
		case p.Type == "Exact":
			out.PathSpecifier = &routev3.RouteMatch_Path{Path: p.Value}
		case p.Type == "RegularExpression":
			out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: p.Value}}
		case p.Value != "/":
			out.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: strings.TrimSuffix(p.Value, "/")}
		}
		out.CaseSensitive = wrapperspb.Bool(true)
	}
	if m.Method != "" {
		out.Headers = append(out.Headers, headerMatch(":method", exact(m.Method)))
	}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, headerMatch(strings.ToLower(h.Name), value(h)))
	}
	for _, q := range m.Query {
		out.QueryParameters = append(out.QueryParameters, &routev3.QueryParameterMatcher{
			Name: q.Name, QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_StringMatch{StringMatch: value(q)},
		})
	}
	return out
}

func headerMatch(name string, m *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m}}
}

func value(v manifests.ValueMatch) *matcherv3.StringMatcher {
	if v.Type == "RegularExpression" {
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: v.Value}}}
	}
	return exact(v.Value)
}

func exact(v string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: v}}
}

// action fills in where matching requests go, and how they are changed.
func (b *builder) action(route *routev3.Route, rule *manifests.Rule, m *manifests.Match) {
	var redirect *manifests.Redirect
	var rewrite *manifests.Rewrite
	for _, f := range rule.Filters {
		if h := f.Request; h != nil {
			route.RequestHeadersToAdd = append(route.RequestHeadersToAdd, headerOptions(h)...)
			route.RequestHeadersToRemove = append(route.RequestHeadersToRemove, h.Remove...)
		}
		if h := f.Response; h != nil {
			route.ResponseHeadersToAdd = append(route.ResponseHeadersToAdd, headerOptions(h)...)
			route.ResponseHeadersToRemove = append(route.ResponseHeadersToRemove, h.Remove...)
		}
		redirect, rewrite = cmp.Or(redirect, f.Redirect), cmp.Or(rewrite, f.Rewrite)
	}
	if redirect != nil {
		route.Action = &routev3.Route_Redirect{Redirect: redirectAction(redirect)}
		return
	}
	var live []manifests.Backend
	for _, backend := range rule.Backends {
		if backend.Weight > 0 {
			live = append(live, backend)
		}
	}
	if len(live) == 0 {
		route.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 500}}
		return
	}
	timeout := durationpb.New(rule.Timeout)
	a := &routev3.RouteAction{
		ClusterNotFoundResponseCode: routev3.RouteAction_INTERNAL_SERVER_ERROR, Timeout: timeout, RetryPolicy: b.retries(),
		MaxGrpcTimeout: timeout, //nolint:staticcheck // deprecated, and what istiod sends
	}
	if len(live) == 1 {
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: b.destination(live[0])}
	} else {
		w := &routev3.WeightedCluster{}
		for _, backend := range live {
			w.Clusters = append(w.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: b.destination(backend), Weight: wrapperspb.UInt32(backend.Weight)})
		}
		a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: w}
	}
	if rewrite != nil {
		rewriteAction(a, rewrite, m)
	}
	route.Action = &routev3.Route_Route{Route: a}
}

// destination is the cluster of a backend. One that is not there gets the name that istiod gives it, and answers 500.
func (b *builder) destination(backend manifests.Backend) string {
	s := b.mesh.Service(backend.Namespace, backend.Name)
	if s == nil || s.Port(backend.Port) == nil {
		return "UnknownService"
	}
	return chainName(s, backend.Port, "http")
}

func headerOptions(h *manifests.HeaderModifier) []*corev3.HeaderValueOption {
	var out []*corev3.HeaderValueOption
	add := func(list []manifests.Header, action corev3.HeaderValueOption_HeaderAppendAction) {
		for _, v := range list {
			// A percent sign begins an operator in xDS; in the Gateway API it is one.
			out = append(out, &corev3.HeaderValueOption{
				Header: &corev3.HeaderValue{Key: v.Name, Value: strings.ReplaceAll(v.Value, "%", "%%")}, AppendAction: action,
			})
		}
	}
	add(h.Set, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
	add(h.Add, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
	return out
}

func rewriteAction(a *routev3.RouteAction, r *manifests.Rewrite, m *manifests.Match) {
	if r.Hostname != "" {
		a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: r.Hostname}
	}
	p := r.Path
	switch {
	case p == nil:
	case p.Type == "ReplaceFullPath":
		a.RegexRewrite = regexRewrite("/.*", strings.ReplaceAll(p.Full, `\`, `\\`)) // a backslash would refer to a group
	case p.Prefix == "" || p.Prefix == "/":
		// The prefix goes with the slash after it, so that /v1/x becomes /x and not //x.
		a.RegexRewrite = regexRewrite("^"+regexp.QuoteMeta(matchedPrefix(m))+"(/?)(.*)", `/\2`)
	default:
		a.PrefixRewrite = strings.TrimSuffix(p.Prefix, "/")
	}
}

func matchedPrefix(m *manifests.Match) string {
	if m.Path == nil {
		return ""
	}
	return strings.TrimSuffix(m.Path.Value, "/")
}

func regexRewrite(regex, substitution string) *matcherv3.RegexMatchAndSubstitute {
	return &matcherv3.RegexMatchAndSubstitute{Pattern: &matcherv3.RegexMatcher{Regex: regex}, Substitution: substitution}
}

func redirectAction(r *manifests.Redirect) *routev3.RedirectAction {
	out := &routev3.RedirectAction{HostRedirect: r.Hostname, PortRedirect: uint32(r.Port)}
	switch r.StatusCode {
	case 0, http.StatusFound: // the Gateway API's default
		out.ResponseCode = routev3.RedirectAction_FOUND
	case http.StatusSeeOther:
		out.ResponseCode = routev3.RedirectAction_SEE_OTHER
	case http.StatusTemporaryRedirect:
		out.ResponseCode = routev3.RedirectAction_TEMPORARY_REDIRECT
	case http.StatusPermanentRedirect:
		out.ResponseCode = routev3.RedirectAction_PERMANENT_REDIRECT
	}
	if r.Scheme != "" {
		out.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: r.Scheme}
	}
	if p := r.Path; p != nil {
		if p.Type == "ReplaceFullPath" {
			out.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: p.Full}
		} else {
			out.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: p.Prefix}
		}
	}
	return out
}
