package istio

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpextauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	networkextauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ext_authz/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
)

// Names of the API, which are as long as they are.
type (
	extensionProvider = meshv1alpha1.MeshConfig_ExtensionProvider
	httpProvider      = meshv1alpha1.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationHttpProvider
	grpcProvider      = meshv1alpha1.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationGrpcProvider
	requestBody       = meshv1alpha1.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationRequestBody
)

// provider is an extension provider for external authorization, over HTTP or over gRPC.
type provider struct {
	err error // why it cannot be asked

	overHTTP *httpProvider
	overGRPC *grpcProvider
	hostname string
	cluster  string
	onError  *typev3.HttpStatus
}

// resolve reads the target's providers by name. Providers for anything but external authorization do not count.
func resolve(t *Target) map[string]*provider {
	out := map[string]*provider{}
	for _, config := range t.Providers {
		p := &provider{overHTTP: config.GetEnvoyExtAuthzHttp(), overGRPC: config.GetEnvoyExtAuthzGrpc()}
		var errs []error
		switch {
		case p.overHTTP != nil:
			errs = append(p.connect(t, p.overHTTP.GetService(), p.overHTTP.GetPort(), p.overHTTP.GetStatusOnError()), checkHTTP(p.overHTTP)...)
		case p.overGRPC != nil:
			errs = p.connect(t, p.overGRPC.GetService(), p.overGRPC.GetPort(), p.overGRPC.GetStatusOnError())
		case isExtAuthz(config):
			errs = append(errs, errors.New("is empty"))
		default:
			continue
		}
		if config.GetName() == "" {
			errs = append(errs, errors.New("has no name"))
		} else if t.Version.manyProviders() && !isProviderName(config.GetName()) {
			errs = append(errs, fmt.Errorf("name %q: want at most 63 lower-case letters, digits and hyphens, not at the ends", config.GetName()))
		}
		if _, err := proto.Marshal(config); err != nil { // text that is not UTF-8
			errs = append(errs, err)
		}
		if out[config.GetName()] != nil {
			errs = append(errs, errors.New("there are two of that name"))
		}
		p.err = errors.Join(errs...)
		out[config.GetName()] = p
	}
	return out
}

// isExtAuthz tells whether a provider is for external authorization even where it says nothing else.
func isExtAuthz(p *extensionProvider) bool {
	switch p.GetProvider().(type) {
	case *meshv1alpha1.MeshConfig_ExtensionProvider_EnvoyExtAuthzHttp, *meshv1alpha1.MeshConfig_ExtensionProvider_EnvoyExtAuthzGrpc:
		return true
	}
	return false
}

// connect finds the cluster and what to answer when the provider fails.
func (p *provider) connect(t *Target, service string, port uint32, onError string) (errs []error) {
	if port < 1 || port > 65535 {
		errs = append(errs, fmt.Errorf("port %d is not one of 1 to 65535", port))
	}
	host, err := t.lookUp(service)
	if err == nil {
		err = checkService(service)
	}
	if err != nil {
		errs = append(errs, err)
	}
	p.hostname, p.cluster = host, outboundCluster(host, port)
	if onError != "" {
		code, err := strconv.ParseInt(onError, 10, 32)
		if _, known := typev3.StatusCode_name[int32(code)]; err != nil || !known {
			errs = append(errs, fmt.Errorf("statusOnError: %q is not an HTTP status that Envoy knows", onError))
		}
		p.onError = &typev3.HttpStatus{Code: typev3.StatusCode(code)}
	}
	return errs
}

// outboundCluster is the name of the cluster of a service's port.
func outboundCluster(host string, port uint32) string {
	return fmt.Sprintf("outbound|%d||%s", port, host)
}

// lookUp finds a service by its host name, or by namespace/hostname.
func (t *Target) lookUp(service string) (host string, err error) {
	namespace, host, found := strings.Cut(service, "/")
	if !found {
		namespace, host = "", service
	}
	if t.Hosts == nil {
		return host, nil
	}
	namespaces := t.Hosts[host]
	switch {
	case namespace != "" && slices.Contains(namespaces, namespace):
	case namespace != "" || len(namespaces) == 0:
		return "", fmt.Errorf("there is no service %s in the mesh", service)
	case len(namespaces) > 1:
		return "", fmt.Errorf("service %s is in several namespaces (%s); write namespace/%[1]s", service, strings.Join(namespaces, ", "))
	}
	return host, nil
}

// label is a part of a host name.
var label = regexp.MustCompile(`^[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$`)

// checkService checks the form of a provider's service: a host name, an IP address, or namespace/hostname.
func checkService(service string) error {
	bad := fmt.Errorf("service: %q is neither a host name nor namespace/hostname", service)
	namespace, host, found := strings.Cut(service, "/")
	if !found {
		if _, err := netip.ParseAddr(service); err == nil || isHostname(service) {
			return nil
		}
		return bad
	}
	ns := strings.TrimPrefix(namespace, "~")
	if namespace == "" || ns != "" && ns != "*" && ns != "." && !label.MatchString(ns) {
		return bad
	}
	if first, rest, ok := strings.Cut(host, "."); host == "*" || ok && (first == "*" || label.MatchString(first)) && isHostname(rest) && len(host) <= 255 {
		return nil
	}
	return bad
}

func isHostname(s string) bool {
	parts := strings.Split(s, ".")
	if _, err := strconv.Atoi(parts[len(parts)-1]); s == "" || len(s) > 255 || err == nil {
		return false
	}
	for i, p := range parts {
		if !label.MatchString(p) && (p != "" || i < len(parts)-1) {
			return false
		}
	}
	return true
}

func isProviderName(s string) bool {
	return len(s) <= 63 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && !strings.HasPrefix(s, "-") && !strings.HasSuffix(s, "-")
}

// checkHTTP checks what a provider over HTTP has beside its service.
func checkHTTP(c *httpProvider) (errs []error) {
	if p := c.GetPathPrefix(); p != "" {
		if _, err := url.Parse(p); err != nil || !strings.HasPrefix(p, "/") {
			errs = append(errs, fmt.Errorf("pathPrefix: %q is not a path that begins with /", p))
		}
	}
	for _, l := range []struct {
		name   string
		values []string
	}{
		{"includeRequestHeadersInCheck", c.GetIncludeRequestHeadersInCheck()}, {"includeHeadersInCheck", headersInCheck(c)},
		{"headersToDownstreamOnDeny", c.GetHeadersToDownstreamOnDeny()}, {"headersToDownstreamOnAllow", c.GetHeadersToDownstreamOnAllow()},
		{"headersToUpstreamOnAllow", c.GetHeadersToUpstreamOnAllow()},
	} {
		if slices.Contains(l.values, "*") {
			errs = append(errs, fmt.Errorf("%s: * alone is not supported; write a name, or * at one end of it", l.name))
		}
	}
	return errs
}

// headersInCheck is the older name of includeRequestHeadersInCheck; it counts where the newer one is empty.
func headersInCheck(c *httpProvider) []string {
	return c.GetIncludeHeadersInCheck() //nolint:staticcheck // deprecated, and still read by istiod
}

// http makes the filter of an HTTP chain. It asks where a policy with the prefix matched.
func (p *provider) http(policyPrefix string) *httpextauthzv3.ExtAuthz {
	out := &httpextauthzv3.ExtAuthz{
		TransportApiVersion: corev3.ApiVersion_V3, StatusOnError: p.onError, FilterEnabledMetadata: enabledBy(httpRBACFilter, policyPrefix),
	}
	if c := p.overGRPC; c != nil {
		out.Services = &httpextauthzv3.ExtAuthz_GrpcService{GrpcService: p.grpcService()}
		out.FailureModeAllow, out.WithRequestBody = c.GetFailOpen(), buffer(c.GetIncludeRequestBodyInCheck())
		return out
	}
	c := p.overHTTP
	out.Services = &httpextauthzv3.ExtAuthz_HttpService{HttpService: p.httpService()}
	out.FailureModeAllow, out.WithRequestBody = c.GetFailOpen(), buffer(c.GetIncludeRequestBodyInCheck())
	out.AllowedHeaders = headerList(c.GetIncludeRequestHeadersInCheck())
	if out.AllowedHeaders == nil {
		out.AllowedHeaders = headerList(headersInCheck(c))
	}
	return out
}

func (p *provider) httpService() *httpextauthzv3.HttpService {
	c := p.overHTTP
	out := &httpextauthzv3.HttpService{PathPrefix: c.GetPathPrefix(), ServerUri: &corev3.HttpUri{
		Uri: "http://" + p.hostname, HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: p.cluster}, Timeout: patience(c.GetTimeout()),
	}}
	more := c.GetIncludeAdditionalHeadersInCheck()
	for _, name := range slices.Sorted(maps.Keys(more)) {
		if out.AuthorizationRequest == nil {
			out.AuthorizationRequest = &httpextauthzv3.AuthorizationRequest{}
		}
		out.AuthorizationRequest.HeadersToAdd = append(out.AuthorizationRequest.HeadersToAdd, &corev3.HeaderValue{Key: name, Value: more[name]})
	}
	r := &httpextauthzv3.AuthorizationResponse{
		AllowedUpstreamHeaders:        headerList(c.GetHeadersToUpstreamOnAllow()),
		AllowedClientHeaders:          headerList(c.GetHeadersToDownstreamOnDeny()),
		AllowedClientHeadersOnSuccess: headerList(c.GetHeadersToDownstreamOnAllow()),
	}
	if r.AllowedUpstreamHeaders != nil || r.AllowedClientHeaders != nil || r.AllowedClientHeadersOnSuccess != nil {
		out.AuthorizationResponse = r
	}
	return out
}

// network makes the filter of a TCP chain, nil for a provider over HTTP.
func (p *provider) network(policyPrefix string) *networkextauthzv3.ExtAuthz {
	if p.overGRPC == nil {
		return nil
	}
	return &networkextauthzv3.ExtAuthz{
		StatPrefix: tcpStats, FailureModeAllow: p.overGRPC.GetFailOpen(), TransportApiVersion: corev3.ApiVersion_V3,
		GrpcService: p.grpcService(), FilterEnabledMetadata: enabledBy(tcpRBACFilter, policyPrefix),
	}
}

func (p *provider) grpcService() *corev3.GrpcService {
	return &corev3.GrpcService{Timeout: patience(p.overGRPC.GetTimeout()), TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
		EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: p.cluster, Authority: p.hostname},
	}}
}

// patience is how long to wait for a provider: ten minutes by default, as istiod has it.
func patience(d *durationpb.Duration) *durationpb.Duration {
	if d == nil {
		return &durationpb.Duration{Seconds: 600}
	}
	return d
}

func buffer(b *requestBody) *httpextauthzv3.BufferSettings {
	if b == nil {
		return nil
	}
	return &httpextauthzv3.BufferSettings{MaxRequestBytes: b.GetMaxRequestBytes(), AllowPartialMessage: b.GetAllowPartialMessage(), PackAsBytes: b.GetPackAsBytes()}
}

// headerList matches header names, in any case; * may stand at one end.
func headerList(names []string) *matcherv3.ListStringMatcher {
	if len(names) == 0 {
		return nil
	}
	out := &matcherv3.ListStringMatcher{}
	for _, n := range names {
		m := text(n)
		m.IgnoreCase = true
		out.Patterns = append(out.Patterns, m)
	}
	return out
}
