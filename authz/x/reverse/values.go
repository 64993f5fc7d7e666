package reverse

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	uritemplatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/gowaypoint/gowaypoint/authz"
)

// values says what one matcher asks for: by the key of the condition that it could be, the value in Istio's notation. There is
// more than one where istiod makes the same of different things.
type values map[string]string

// Keys that are not keys of conditions: they stand in operations and sources alone.
const (
	keyHost     = "hosts"
	keyMethod   = "methods"
	keyPath     = "paths"
	keyPort     = "destination.port"
	jwtFilter   = "envoy.filters.http.jwt_authn"
	claimPrefix = "request.auth.claims"
	spiffe      = "spiffe://"
)

// notation writes a string matcher as policies do. ok is false for one that they cannot express.
func notation(m *matcherv3.StringMatcher) (string, bool) {
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return p.Exact, p.Exact != "" && !strings.HasPrefix(p.Exact, "*") && !strings.HasSuffix(p.Exact, "*")
	case *matcherv3.StringMatcher_Prefix:
		return p.Prefix + "*", p.Prefix != ""
	case *matcherv3.StringMatcher_Suffix:
		return "*" + p.Suffix, p.Suffix != ""
	case *matcherv3.StringMatcher_SafeRegex:
		return "*", p.SafeRegex.GetRegex() == ".+"
	}
	return "", false
}

func headerNotation(h *routev3.HeaderMatcher) (string, bool) {
	if h.GetPresentMatch() && !h.GetInvertMatch() {
		return "*", true
	}
	return notation(h.GetStringMatch())
}

func cidrNotation(c *corev3.CidrRange) (string, bool) {
	a, err := netip.ParseAddr(c.GetAddressPrefix())
	if err != nil {
		return "", false
	}
	if bits := int(c.GetPrefixLen().GetValue()); bits != a.BitLen() {
		return a.String() + "/" + strconv.Itoa(bits), true
	}
	return a.String(), true
}

func one(key, value string, ok bool) values {
	if !ok {
		return nil
	}
	return values{key: value}
}

func permissionValues(p *rbacv3.Permission) values {
	switch r := p.GetRule().(type) {
	case *rbacv3.Permission_Header:
		value, ok := headerNotation(r.Header)
		switch r.Header.GetName() {
		case ":authority":
			return one(keyHost, value, ok)
		case ":method":
			return one(keyMethod, value, ok)
		}
	case *rbacv3.Permission_UrlPath:
		value, ok := notation(r.UrlPath.GetPath())
		return one(keyPath, value, ok)
	case *rbacv3.Permission_UriTemplate:
		var t uritemplatev3.UriTemplateMatchConfig
		if err := r.UriTemplate.GetTypedConfig().UnmarshalTo(&t); err != nil {
			return nil
		}
		parts := strings.Split(t.GetPathTemplate(), "/")
		for i, part := range parts {
			if part == "*" || part == "**" {
				parts[i] = "{" + part + "}"
			}
		}
		return values{keyPath: strings.Join(parts, "/")}
	case *rbacv3.Permission_DestinationPort:
		return values{keyPort: strconv.Itoa(int(r.DestinationPort))}
	case *rbacv3.Permission_DestinationIp:
		value, ok := cidrNotation(r.DestinationIp)
		return one("destination.ip", value, ok)
	case *rbacv3.Permission_RequestedServerName:
		value, ok := notation(r.RequestedServerName)
		return one("connection.sni", value, ok)
	case *rbacv3.Permission_Metadata:
		if path := metadataPath(r.Metadata); len(path) == 1 && !r.Metadata.GetInvert() {
			value, ok := filterValue(r.Metadata.GetValue())
			return one("experimental."+r.Metadata.GetFilter()+"["+path[0]+"]", value, ok)
		}
	}
	return nil
}

// filterValue is one value; several are one or_match, which listOf takes apart.
func filterValue(v *matcherv3.ValueMatcher) (string, bool) {
	if l := v.GetListMatch(); l != nil {
		value, ok := notation(l.GetOneOf().GetStringMatch())
		return "[" + value + "]", ok
	}
	return notation(v.GetStringMatch())
}

func metadataPath(m *matcherv3.MetadataMatcher) []string {
	var out []string
	for _, s := range m.GetPath() {
		out = append(out, s.GetKey())
	}
	return out
}

var (
	namespaceForm = regexp.MustCompile(`^\.\*/ns/(.*)/\.\*$`)
	accountForm   = regexp.MustCompile(`^spiffe://\.\+/ns/([^/]*)/\(\.\+/\|\)sa/([^/]*)\(/\.\+\)\?$`)
	domainForm    = regexp.MustCompile(`^spiffe://(.*)/\.\*$`)
	endForm       = regexp.MustCompile(`^spiffe://\.\*(.*)$`)
	escape        = regexp.MustCompile(`\\(.)`)
)

func principalValues(p *rbacv3.Principal) values {
	switch id := p.GetIdentifier().(type) {
	case *rbacv3.Principal_FilterState:
		if id.FilterState.GetKey() == authz.PeerPrincipal {
			return identityValues(id.FilterState.GetStringMatch())
		}
	case *rbacv3.Principal_DirectRemoteIp:
		value, ok := cidrNotation(id.DirectRemoteIp)
		return one("source.ip", value, ok)
	case *rbacv3.Principal_RemoteIp:
		value, ok := cidrNotation(id.RemoteIp)
		return one("remote.ip", value, ok)
	case *rbacv3.Principal_Header:
		value, ok := headerNotation(id.Header)
		return one("request.headers["+id.Header.GetName()+"]", value, ok)
	case *rbacv3.Principal_AndIds:
		return requestPrincipal(id.AndIds.GetIds())
	}
	return nil
}

// identityValues reads what istiod makes of principals, namespaces, service accounts and trust domains. Whether a name was
// quoted depends on istiod's version; the quoting is undone, and the check at the end tells if that was right.
func identityValues(m *matcherv3.StringMatcher) values {
	plain := func(s string) string { return escape.ReplaceAllString(strings.ReplaceAll(s, ".*", "*"), "$1") }
	expr := m.GetSafeRegex().GetRegex()
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		value, ok := strings.CutPrefix(p.Exact, spiffe)
		return one("source.principal", value, ok)
	case *matcherv3.StringMatcher_Prefix:
		value, ok := strings.CutPrefix(p.Prefix, spiffe)
		out := one("source.principal", value+"*", ok && value != "")
		switch domain, end := strings.CutSuffix(value, "/"); {
		case ok && value == "":
			return values{"source.trustDomain": "*"}
		case ok && end && !strings.Contains(domain, "/"):
			out["source.trustDomain"] = domain
		}
		return out
	case *matcherv3.StringMatcher_SafeRegex:
		if expr == ".+" {
			return values{"source.principal": "*"}
		}
		if f := accountForm.FindStringSubmatch(expr); f != nil {
			return values{"source.serviceAccount": plain(f[1]) + "/" + plain(f[2])}
		}
		if f := namespaceForm.FindStringSubmatch(expr); f != nil {
			return values{"source.namespace": plain(f[1])}
		}
		out := values{}
		if f := domainForm.FindStringSubmatch(expr); f != nil {
			out["source.trustDomain"] = escape.ReplaceAllString(strings.ReplaceAll(f[1], "[^/]*", "*"), "$1")
		}
		if f := endForm.FindStringSubmatch(expr); f != nil {
			out["source.principal"] = "*" + plain(f[1])
		}
		return out
	}
	return nil
}

// requestPrincipal reads issuer and subject.
func requestPrincipal(ids []*rbacv3.Principal) values {
	if len(ids) != 2 {
		return nil
	}
	claim := func(p *rbacv3.Principal, name string) (*matcherv3.StringMatcher, bool) {
		path := metadataPath(p.GetMetadata())
		return p.GetMetadata().GetValue().GetStringMatch(), len(path) == 2 && path[1] == name && p.GetMetadata().GetFilter() == jwtFilter
	}
	issMatcher, okIss := claim(ids[0], "iss")
	subMatcher, okSub := claim(ids[1], "sub")
	iss, plainIss := notation(issMatcher)
	sub, plainSub := notation(subMatcher)
	if !okIss || !okSub || !plainIss || !plainSub {
		return nil
	}
	const key = "request.auth.principal"
	switch {
	case iss == "*" && sub == "*":
		return values{key: "*"}
	case iss == "*" && strings.HasPrefix(sub, "*"):
		return values{key: sub}
	case sub == "*" && strings.HasSuffix(iss, "*"):
		return values{key: iss}
	}
	return values{key: iss + "/" + sub}
}

// claimValues reads a condition on a claim: all of its values are in one matcher.
func claimValues(m *matcherv3.MetadataMatcher) (key string, list []string) {
	path := metadataPath(m)
	if m.GetFilter() != jwtFilter || m.GetInvert() || len(path) < 2 {
		return "", nil
	}
	both := m.GetValue().GetOrMatch().GetValueMatchers() // an element of a list, or a string
	if len(both) != 2 {
		return "", nil
	}
	all := []*matcherv3.ValueMatcher{both[1]}
	if many := both[1].GetOrMatch(); many != nil {
		all = many.GetValueMatchers()
	}
	for _, v := range all {
		value, ok := notation(v.GetStringMatch())
		if !ok {
			return "", nil
		}
		list = append(list, value)
	}
	switch names := path[1:]; {
	case len(names) == 1 && names[0] == "aud":
		return "request.auth.audiences", list
	case len(names) == 1 && names[0] == "azp":
		return "request.auth.presenter", list
	default:
		return claimPrefix + "[" + strings.Join(names, "][") + "]", list
	}
}
