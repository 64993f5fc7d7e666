package istio

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	securityv1beta1 "istio.io/api/security/v1beta1"
)

// peerPrincipal is the filter state in which a waypoint keeps the client's SPIFFE identity: the certificate was shown to the
// outer connection, and policy is evaluated inside the tunnel.
const peerPrincipal = "io.istio.peer_principal"

const (
	spiffe     = "spiffe://"
	jwtFilter  = "envoy.filters.http.jwt_authn"
	jwtPayload = "payload"
)

// source lists what a `from` says, in the order in which istiod writes it.
func (t *translator) source(path string, s *securityv1beta1.Source) []field[*rbacv3.Principal] {
	return []field[*rbacv3.Principal]{
		{path: path + ".principals", values: t.aliases(s.GetPrincipals()), not: t.aliases(s.GetNotPrincipals()), match: principal},
		{path: path + ".requestPrincipals", values: s.GetRequestPrincipals(), not: s.GetNotRequestPrincipals(), httpOnly: true, all: requestPrincipals},
		{path: path + ".serviceAccounts", values: s.GetServiceAccounts(), not: s.GetNotServiceAccounts(), match: t.serviceAccount},
		{path: path + ".trustDomains", values: s.GetTrustDomains(), not: s.GetNotTrustDomains(), match: trustDomain},
		{path: path + ".namespaces", values: s.GetNamespaces(), not: s.GetNotNamespaces(), match: namespace},
		{path: path + ".remoteIpBlocks", values: s.GetRemoteIpBlocks(), not: s.GetNotRemoteIpBlocks(), match: remoteIP},
		{path: path + ".ipBlocks", values: s.GetIpBlocks(), not: s.GetNotIpBlocks(), match: sourceIP},
	}
}

// principalCondition translates a condition on an attribute of who asks.
func (t *translator) principalCondition(path string, c *securityv1beta1.Condition) (field[*rbacv3.Principal], error) {
	f := field[*rbacv3.Principal]{path: path, values: c.GetValues(), not: c.GetNotValues()}
	claim := func(names ...string) {
		f.httpOnly = true
		f.all = func(values []string) (*rbacv3.Principal, error) {
			return metadataPrincipal(append([]string{jwtPayload}, names...), claimValue(values)), nil
		}
	}
	switch key := c.GetKey(); {
	case key == "source.ip":
		f.match = sourceIP
	case key == "remote.ip":
		f.match = remoteIP
	case key == "source.namespace":
		f.match = namespace
	case key == "source.serviceAccount":
		f.match = t.serviceAccount
	case key == "source.trustDomain":
		f.match = trustDomain
	case key == "source.principal":
		f.match, f.values, f.not = principal, t.aliases(f.values), t.aliases(f.not)
	case key == "request.auth.principal":
		f.httpOnly, f.all = true, requestPrincipals
	case key == "request.auth.audiences":
		claim("aud")
	case key == "request.auth.presenter":
		claim("azp")
	case strings.HasPrefix(key, "request.auth.claims"):
		names, err := brackets(strings.TrimPrefix(key, "request.auth.claims"))
		if err != nil {
			return f, fmt.Errorf("%s.key: %q: %w", path, key, err)
		}
		claim(names...)
	case strings.HasPrefix(key, "request.headers"):
		names, err := brackets(strings.TrimPrefix(key, "request.headers"))
		if err == nil && len(names) != 1 {
			err = errors.New("a header has one name")
		}
		if err != nil {
			return f, fmt.Errorf("%s.key: %q: %w", path, key, err)
		}
		f.httpOnly = true
		f.match = func(v string) (*rbacv3.Principal, error) {
			return &rbacv3.Principal{Identifier: &rbacv3.Principal_Header{Header: headerMatcher(names[0], v)}}, nil
		}
	default:
		return f, fmt.Errorf("%s.key: unknown attribute %q", path, key)
	}
	return f, nil
}

var bracket = regexp.MustCompile(`^\[([^\[\]]+)\]`)

// brackets reads "[a][b]".
func brackets(s string) ([]string, error) {
	var out []string
	for s != "" {
		m := bracket.FindStringSubmatch(s)
		if m == nil {
			break
		}
		out, s = append(out, m[1]), s[len(m[0]):]
	}
	if s != "" || len(out) == 0 {
		return nil, errors.New("want a name in brackets after the attribute")
	}
	return out, nil
}

func peer(m *matcherv3.StringMatcher) (*rbacv3.Principal, error) {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_FilterState{FilterState: &matcherv3.FilterStateMatcher{
		Key: peerPrincipal, Matcher: &matcherv3.FilterStateMatcher_StringMatch{StringMatch: m},
	}}}, nil
}

// principal matches an identity, written without spiffe://.
func principal(v string) (*rbacv3.Principal, error) { return peer(text(v, spiffe)) }

// name is a namespace or service account with wildcards. Anything that a Kubernetes name cannot hold is refused: istiod
// puts the text into a regular expression as it is, where "." and "|" would mean more than they say.
func name(v, wildcard string) (string, error) {
	for _, c := range v {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '*' && wildcard != "" {
			continue
		}
		if c == '.' && wildcard == "" { // a service account may have dots
			continue
		}
		return "", fmt.Errorf("%q is not a name: %q in it", v, c)
	}
	v = strings.ReplaceAll(v, ".", `\.`)
	return strings.ReplaceAll(v, "*", wildcard), nil
}

func namespace(v string) (*rbacv3.Principal, error) {
	n, err := name(v, ".*")
	if err != nil {
		return nil, err
	}
	return peer(regex(".*/ns/" + n + "/.*"))
}

// serviceAccount matches "name" of the policy's own namespace, or "namespace/name".
func (t *translator) serviceAccount(v string) (*rbacv3.Principal, error) {
	ns, sa, ok := strings.Cut(v, "/")
	if !ok {
		ns, sa = t.namespace, v
	}
	ns, err := name(ns, "")
	if err != nil {
		return nil, err
	}
	if sa, err = name(sa, ""); err != nil {
		return nil, err
	}
	return peer(regex("spiffe://.+/ns/" + ns + "/(.+/|)sa/" + sa + "(/.+)?"))
}

func trustDomain(v string) (*rbacv3.Principal, error) {
	switch {
	case v == "*":
		return peer(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: spiffe}})
	case strings.Contains(v, "*"):
		parts := strings.Split(v, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		return peer(regex(spiffe + strings.Join(parts, "[^/]*") + "/.*"))
	}
	return peer(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: spiffe + v + "/"}})
}

func sourceIP(v string) (*rbacv3.Principal, error) {
	c, err := cidr(v)
	if err != nil {
		return nil, err
	}
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_DirectRemoteIp{DirectRemoteIp: c}}, nil
}

func remoteIP(v string) (*rbacv3.Principal, error) {
	c, err := cidr(v)
	if err != nil {
		return nil, err
	}
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_RemoteIp{RemoteIp: c}}, nil
}

// aliases writes a principal of one of the mesh's trust domains once for each of them. A trust domain with a wildcard, and
// one of another mesh, stay as they are.
func (t *translator) aliases(principals []string) []string {
	if len(t.target.TrustDomains) == 0 {
		return principals
	}
	var out []string
	for _, p := range principals {
		td, rest, ok := strings.Cut(p, "/")
		// A policy says cluster.local for the mesh's own trust domain, whatever that is called.
		if !ok || td != "cluster.local" && !slices.Contains(t.target.TrustDomains, td) {
			out = append(out, p)
			continue
		}
		for _, alias := range t.target.TrustDomains {
			out = append(out, alias+"/"+rest)
		}
	}
	return out
}

// requestPrincipals matches "issuer/subject" of a JWT: the last slash divides, since an issuer may be a URL.
func requestPrincipals(values []string) (*rbacv3.Principal, error) {
	var out []*rbacv3.Principal
	for _, v := range values {
		if v == "" {
			return nil, errors.New("an empty value")
		}
		issuer, subject := v, ""
		i := strings.LastIndexByte(v, '/')
		if i >= 0 {
			issuer, subject = v[:i], v[i+1:]
		}
		iss, sub := exact(issuer), exact(subject)
		switch {
		case v == "*":
			iss, sub = text("*", ""), text("*", "")
		case strings.HasPrefix(v, "*") && i >= 0:
			iss = text(issuer, "")
		case strings.HasPrefix(v, "*"):
			iss, sub = text("*", ""), text(v, "")
		case strings.HasSuffix(v, "*") && i >= 0:
			sub = text(subject, "")
		case strings.HasSuffix(v, "*"):
			iss, sub = text(v, ""), text("*", "")
		}
		out = append(out, &rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{Ids: []*rbacv3.Principal{
			metadataPrincipal([]string{jwtPayload, "iss"}, matchValue(iss)), metadataPrincipal([]string{jwtPayload, "sub"}, matchValue(sub)),
		}}}})
	}
	if len(out) == 1 {
		return out[0], nil
	}
	return orPrincipals(out), nil
}

// claimValue matches a claim that is a string or a list of strings.
func claimValue(values []string) *matcherv3.ValueMatcher {
	var list []*matcherv3.ValueMatcher
	for _, v := range values {
		list = append(list, stringValue(v))
	}
	one := anyOf(list)
	return anyOf([]*matcherv3.ValueMatcher{oneOf(one), one})
}

func metadataPrincipal(path []string, v *matcherv3.ValueMatcher) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_Metadata{Metadata: metadata(jwtFilter, path, v)}}
}
