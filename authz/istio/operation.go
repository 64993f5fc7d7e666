package istio

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	uritemplatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	securityv1beta1 "istio.io/api/security/v1beta1"
)

// operation lists what a `to` says, in the order in which istiod writes it.
func (t *translator) operation(path string, o *securityv1beta1.Operation) []field[*rbacv3.Permission] {
	return []field[*rbacv3.Permission]{
		{path: path + ".hosts", values: o.GetHosts(), not: o.GetNotHosts(), httpOnly: true, match: host},
		{path: path + ".methods", values: o.GetMethods(), not: o.GetNotMethods(), httpOnly: true, match: method},
		{path: path + ".paths", values: o.GetPaths(), not: o.GetNotPaths(), httpOnly: true, match: urlPath},
		{path: path + ".ports", values: o.GetPorts(), not: o.GetNotPorts(), match: destinationPort},
	}
}

// permissionCondition translates a condition on an attribute of what is asked for; ok is false for any other attribute.
func permissionCondition(path string, c *securityv1beta1.Condition) (f field[*rbacv3.Permission], ok bool) {
	f = field[*rbacv3.Permission]{path: path, values: c.GetValues(), not: c.GetNotValues()}
	switch key := c.GetKey(); {
	case key == "destination.ip":
		f.match = destinationIP
	case key == "destination.port":
		f.match = destinationPort
	case key == "connection.sni":
		f.match = func(v string) (*rbacv3.Permission, error) {
			return &rbacv3.Permission{Rule: &rbacv3.Permission_RequestedServerName{RequestedServerName: text(v)}}, nil
		}
	case strings.HasPrefix(key, "experimental.envoy.filters."):
		f.all = func(values []string) (*rbacv3.Permission, error) {
			filter, name, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(key, "experimental."), "]"), "[")
			if !ok {
				return nil, fmt.Errorf("key %q is not of the form experimental.envoy.filters.<filter>[<key>]", key)
			}
			return &rbacv3.Permission{Rule: &rbacv3.Permission_Metadata{Metadata: metadata(filter, []string{name}, filterValue(values))}}, nil
		}
	default:
		return f, false
	}
	return f, true
}

// filterValue matches a value of a filter's metadata: "[v]" an element of a list, "v" a string.
func filterValue(values []string) *matcherv3.ValueMatcher {
	var list []*matcherv3.ValueMatcher
	for _, v := range values {
		if strings.HasPrefix(v, "[") && strings.HasSuffix(v, "]") {
			list = append(list, oneOf(stringValue(strings.Trim(v, "[]"))))
		} else {
			list = append(list, stringValue(v))
		}
	}
	return anyOf(list)
}

func host(v string) (*rbacv3.Permission, error) {
	m := headerMatcher(":authority", v)
	if s := m.GetStringMatch(); s != nil {
		s.IgnoreCase = true // host names are the same in either case (RFC 9110 section 4.2.3)
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: m}}, nil
}

func method(v string) (*rbacv3.Permission, error) {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: headerMatcher(":method", v)}}, nil
}

// isTemplate tells whether a path is a template rather than a value with a wildcard at one end.
func isTemplate(v string) bool { return strings.Contains(v, "{*}") || strings.Contains(v, "{**}") }

func urlPath(v string) (*rbacv3.Permission, error) {
	if isTemplate(v) {
		a, err := anypb.New(&uritemplatev3.UriTemplateMatchConfig{PathTemplate: strings.NewReplacer("{*}", "*", "{**}", "**").Replace(v)})
		if err != nil {
			return nil, err
		}
		return &rbacv3.Permission{Rule: &rbacv3.Permission_UriTemplate{UriTemplate: &corev3.TypedExtensionConfig{Name: "uri-template", TypedConfig: a}}}, nil
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_UrlPath{UrlPath: &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: text(v)}}}}, nil
}

func destinationPort(v string) (*rbacv3.Permission, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%q is not a port (0 to 65535)", v)
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_DestinationPort{DestinationPort: uint32(n)}}, nil
}

func destinationIP(v string) (*rbacv3.Permission, error) {
	c, err := cidr(v)
	if err != nil {
		return nil, err
	}
	return &rbacv3.Permission{Rule: &rbacv3.Permission_DestinationIp{DestinationIp: c}}, nil
}

// cidr reads an address or a range. The zone of an address is left out.
func cidr(v string) (*corev3.CidrRange, error) {
	var p netip.Prefix
	var err error
	if strings.Contains(v, "/") {
		p, err = netip.ParsePrefix(v)
	} else {
		var a netip.Addr
		a, err = netip.ParseAddr(v)
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if err != nil {
		return nil, fmt.Errorf("%q is neither an IP address nor a range such as 10.0.0.0/8", v)
	}
	return &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits()))}, nil
}

// headerMatcher matches a header's value; "*" is presence.
func headerMatcher(name, v string) *routev3.HeaderMatcher {
	if v == "*" {
		return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}}
	}
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: text(v)}}
}
