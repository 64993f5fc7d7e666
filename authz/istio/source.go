package istio

import (
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
		{path: path + ".principals", values: t.aliases(s.GetPrincipals()), not: t.aliases(s.GetNotPrincipals()), match: t.principal},
		{path: path + ".requestPrincipals", values: s.GetRequestPrincipals(), not: s.GetNotRequestPrincipals(), httpOnly: true, all: requestPrincipals},
		{path: path + ".serviceAccounts", values: s.GetServiceAccounts(), not: s.GetNotServiceAccounts(), match: t.serviceAccount},
		{path: path + ".trustDomains", values: t.expand(s.GetTrustDomains()), not: t.expand(s.GetNotTrustDomains()), match: t.trustDomain},
		{path: path + ".namespaces", values: s.GetNamespaces(), not: s.GetNotNamespaces(), match: t.sourceNamespace},
		{path: path + ".remoteIpBlocks", values: s.GetRemoteIpBlocks(), not: s.GetNotRemoteIpBlocks(), match: remoteIP},
		{path: path + ".ipBlocks", values: s.GetIpBlocks(), not: s.GetNotIpBlocks(), match: sourceIP},
	}
}

// principalCondition translates a condition on an attribute of who asks; ok is false for one that istiod does not know.
func (t *translator) principalCondition(path string, c *securityv1beta1.Condition) (f field[*rbacv3.Principal], ok bool) {
	f = field[*rbacv3.Principal]{path: path, values: c.GetValues(), not: c.GetNotValues()}
	switch key := c.GetKey(); {
	case key == "source.ip":
		f.match = sourceIP
	case key == "remote.ip":
		f.match = remoteIP
	case key == "source.namespace":
		f.match = t.sourceNamespace
	case key == "source.serviceAccount" && t.target.Version.serviceAccounts():
		f.match = t.serviceAccount
	case key == "source.trustDomain" && t.target.Version.trustDomains():
		f.match, f.values, f.not = t.trustDomain, t.expand(f.values), t.expand(f.not)
	case key == "source.principal":
		f.match, f.values, f.not = t.principal, t.aliases(f.values), t.aliases(f.not)
	case key == "request.auth.principal":
		f.httpOnly, f.all = true, requestPrincipals
	case key == "request.auth.audiences":
		f.httpOnly, f.all = true, claim(fixedPath("aud"))
	case key == "request.auth.presenter":
		f.httpOnly, f.all = true, claim(fixedPath("azp"))
	case strings.HasPrefix(key, "request.headers"):
		f.httpOnly, f.match = true, header(strings.TrimPrefix(key, "request.headers"))
	case strings.HasPrefix(key, "request.auth.claims"):
		f.httpOnly, f.all = true, claim(func() ([]string, error) { return nestedNames(strings.TrimPrefix(key, "request.auth.claims")) })
	default:
		return f, false
	}
	return f, true
}

// header matches a request header, whose name stands in brackets.
func header(bracketed string) func(string) (*rbacv3.Principal, error) {
	return func(v string) (*rbacv3.Principal, error) {
		name, err := bracketedName(bracketed)
		if err != nil {
			return nil, err
		}
		return &rbacv3.Principal{Identifier: &rbacv3.Principal_Header{Header: headerMatcher(name, v)}}, nil
	}
}

// claim matches a claim of a JWT that is a string or a list of strings.
func claim(path func() ([]string, error)) func([]string) (*rbacv3.Principal, error) {
	return func(values []string) (*rbacv3.Principal, error) {
		names, err := path()
		if err != nil {
			return nil, err
		}
		return metadataPrincipal(append([]string{jwtPayload}, names...), claimValue(values)), nil
	}
}

func fixedPath(names ...string) func() ([]string, error) {
	return func() ([]string, error) { return names, nil }
}

// bracketedName reads "[a]". Brackets inside are part of the name.
func bracketedName(s string) (string, error) {
	if !strings.HasPrefix(s, "[") || !strings.HasSuffix(s, "]") {
		return "", fmt.Errorf("%q is not a name in brackets", s)
	}
	return strings.TrimPrefix(strings.TrimSuffix(s, "]"), "["), nil
}

// nestedNames reads "[a][b]", the path of a claim within claims. What is not of that form is one name in brackets.
func nestedNames(s string) ([]string, error) {
	var out []string
	for rest := s; rest != ""; {
		end := strings.IndexByte(rest, ']')
		if rest[0] != '[' || end < 0 || strings.Contains(rest[1:end], "[") {
			name, err := bracketedName(s)
			return []string{name}, err
		}
		out, rest = append(out, rest[1:end]), rest[end+1:]
	}
	return out, nil
}

func peer(m *matcherv3.StringMatcher) (*rbacv3.Principal, error) {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_FilterState{FilterState: &matcherv3.FilterStateMatcher{
		Key: peerPrincipal, Matcher: &matcherv3.FilterStateMatcher_StringMatch{StringMatch: m},
	}}}, nil
}

// literal is part of a regular expression that stands for itself. Older versions of istiod write it as it is, so that "." and
// "|" in it mean more than they say (CVE-2026-39350); what they make is made here too, and noted.
func (t *translator) literal(v string, quoted bool, since string) string {
	q := regexp.QuoteMeta(v)
	if q == v || quoted {
		return q
	}
	note := fmt.Sprintf("istiod %s puts %q into a regular expression without quoting, so that it stands for other identities too; "+
		"leave out characters such as \".\", or use istiod %s or later", t.target.Version, v, since)
	if !slices.Contains(t.notes, note) {
		t.notes = append(t.notes, note)
	}
	return v
}

// principal matches an identity, written without spiffe://. A suffix behind that prefix is a regular expression.
func (t *translator) principal(v string) (*rbacv3.Principal, error) {
	switch {
	case v == "*":
		return peer(regex(".+"))
	case strings.HasPrefix(v, "*"):
		return peer(regex(spiffe + ".*" + t.literal(v[1:], t.target.Version.quotesAll(), quotesAllSince)))
	case strings.HasSuffix(v, "*"):
		return peer(prefix(spiffe + v[:len(v)-1]))
	}
	return peer(exact(spiffe + v))
}

func (t *translator) sourceNamespace(v string) (*rbacv3.Principal, error) {
	parts := strings.Split(v, "*")
	for i := range parts {
		parts[i] = t.literal(parts[i], t.target.Version.quotesAll(), quotesAllSince)
	}
	return peer(regex(".*/ns/" + strings.Join(parts, ".*") + "/.*"))
}

// serviceAccount matches "name" of the policy's own namespace, or "namespace/name".
func (t *translator) serviceAccount(v string) (*rbacv3.Principal, error) {
	if !t.target.Version.serviceAccounts() {
		return nil, refuse("istiod %s does not know this field; it came with 1.25", t.target.Version)
	}
	ns, sa, ok := strings.Cut(v, "/")
	if !ok {
		ns, sa = t.namespace, v
	}
	ns = t.literal(ns, t.target.Version.quotesAccounts(), quotesAccountsSince)
	sa = t.literal(sa, t.target.Version.quotesAccounts(), quotesAccountsSince)
	return peer(regex("spiffe://.+/ns/" + ns + "/(.+/|)sa/" + sa + "(/.+)?"))
}

func (t *translator) trustDomain(v string) (*rbacv3.Principal, error) {
	if !t.target.Version.trustDomains() {
		return nil, refuse("istiod %s does not know this field; it came with 1.30.2", t.target.Version)
	}
	if v == "*" {
		return peer(prefix(spiffe))
	}
	before, after, ok := strings.Cut(v, "*")
	if !ok {
		return peer(prefix(spiffe + v + "/"))
	}
	return peer(regex(spiffe + regexp.QuoteMeta(before) + "[^/]*" + regexp.QuoteMeta(after) + "/.*"))
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

// requestPrincipals matches "issuer/subject" of a JWT: the last slash divides, since an issuer may be a URL.
func requestPrincipals(values []string) (*rbacv3.Principal, error) {
	anything := regex(".+")
	var out []*rbacv3.Principal
	for _, v := range values {
		issuer, subject := v, ""
		i := strings.LastIndexByte(v, '/')
		if i >= 0 {
			issuer, subject = v[:i], v[i+1:]
		}
		iss, sub := exact(issuer), exact(subject)
		switch {
		case v == "*":
			iss, sub = anything, anything
		case strings.HasPrefix(v, "*") && i < 0:
			iss, sub = anything, suffix(v[1:])
		case issuer == "*":
			iss = anything
		case strings.HasPrefix(v, "*"):
			iss = suffix(issuer[1:])
		case strings.HasSuffix(v, "*") && i < 0:
			iss, sub = prefix(strings.TrimSuffix(v, "*")), anything
		case subject == "*":
			sub = anything
		case strings.HasSuffix(v, "*"):
			sub = prefix(strings.TrimSuffix(subject, "*"))
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
