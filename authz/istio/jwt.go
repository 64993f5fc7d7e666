package istio

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	securityv1beta1 "istio.io/api/security/v1beta1"
)

// RequestAuthentication is the object of that kind. Versions v1 and v1beta1 of the API have the same spec.
type RequestAuthentication struct {
	Namespace, Name string
	Spec            *securityv1beta1.RequestAuthentication
}

// JWKSFetch says who fetches the keys of a jwksUri: istiod, which sends them along, or Envoy, from a cluster.
type JWKSFetch uint8

// Who fetches keys. The names of istiod's setting PILOT_JWT_ENABLE_REMOTE_JWKS stand beside.
const (
	FetchByIstiod JWKSFetch = iota // false, istiod
	FetchHybrid                    // hybrid, true: Envoy where the host is a service of the mesh, else istiod
	FetchByEnvoy                   // envoy
)

// Authentication is what the RequestAuthentications of a target become. A request without a token passes; one with a
// token that is not valid is refused with 401.
type Authentication struct {
	// Config of the filter; nil where no token is looked at.
	Config *jwtv3.JwtAuthentication
	// Skipped and Notes are in the order of the objects.
	Skipped []Skipped
	Notes   []Note
}

// HTTPFilter is the filter of an HTTP chain, nil where there is none. A TCP chain never has one.
func (a *Authentication) HTTPFilter() *hcmv3.HttpFilter {
	if a.Config == nil {
		return nil
	}
	return httpFilter(jwtFilter, a.Config)
}

// Authenticate translates the RequestAuthentications that apply to the target: they attach as policies do. Give the objects
// in the order of their creation, which decides about the order of rules of one issuer. An error names the object and the
// field; there may be several, joined.
func Authenticate(objects []RequestAuthentication, t Target) (*Authentication, error) {
	t = t.withDefaults()
	out := &Authentication{}
	var errs []error
	var found []*RequestAuthentication
	for i := range objects {
		o := &objects[i]
		if problems := o.problems(&t); len(problems) > 0 {
			errs = append(errs, problems...)
			continue
		}
		if why := t.excludes("RequestAuthentication", o.Namespace, o.Spec); why != "" {
			out.Skipped = append(out.Skipped, Skipped{o.Namespace, o.Name, why})
			continue
		}
		errs = append(errs, o.ruleProblems(&t)...)
		found = append(found, o)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if t.TCP {
		for _, o := range found {
			out.Skipped = append(out.Skipped, Skipped{o.Namespace, o.Name, "a TCP port has no tokens"})
		}
		return out, nil
	}
	return out, out.build(t.sorted(found), &t)
}

func (o *RequestAuthentication) wrap(err error) error {
	return fmt.Errorf("RequestAuthentication %s/%s: %w", o.Namespace, o.Name, err)
}

func (o *RequestAuthentication) problems(t *Target) []error {
	if _, err := proto.Marshal(o.Spec); err != nil {
		return []error{o.wrap(errors.New("text that is not UTF-8"))}
	}
	c := checker{version: t.Version, wrap: o.wrap}
	if !t.Unvalidated {
		c.attachment(o.Spec)
	}
	return c.errs
}

func (o *RequestAuthentication) ruleProblems(t *Target) []error {
	c := checker{version: t.Version, wrap: o.wrap}
	for i, r := range o.Spec.GetJwtRules() {
		c.jwtRule(fmt.Sprintf("jwtRules[%d]", i), r, t.Unvalidated)
	}
	return c.errs
}

// tokenRule is a rule with where it is from.
type tokenRule struct {
	*securityv1beta1.JWTRule
	from *RequestAuthentication
	path string
}

// sorted lists the rules by issuer. Before, they stand in the order in which istiod looks for objects: in the waypoint's
// namespace, in the root namespace, in those of the services.
func (t *Target) sorted(objects []*RequestAuthentication) []tokenRule {
	namespaces := []string{t.Gateway.Namespace, t.RootNamespace}
	for _, o := range t.Objects {
		namespaces = append(namespaces, o.Namespace)
	}
	slices.SortStableFunc(objects, func(a, b *RequestAuthentication) int {
		return cmp.Compare(slices.Index(namespaces, a.Namespace), slices.Index(namespaces, b.Namespace))
	})
	var out []tokenRule
	for _, o := range objects {
		for i, r := range o.Spec.GetJwtRules() {
			if r != nil {
				out = append(out, tokenRule{r, o, fmt.Sprintf("jwtRules[%d]", i)})
			}
		}
	}
	// The order of rules of one issuer is what the algorithm makes it; istiod has the same one.
	slices.SortFunc(out, func(a, b tokenRule) int { return cmp.Compare(a.GetIssuer(), b.GetIssuer()) })
	return out
}

// build makes one provider of each rule. A request has to satisfy one of them or, for each, bring no token where that one
// looks for it: so providers that look in the same place do not refuse each other's tokens.
func (a *Authentication) build(rules []tokenRule, t *Target) error {
	if len(rules) == 0 {
		return nil
	}
	config := &jwtv3.JwtAuthentication{Providers: map[string]*jwtv3.JwtProvider{}, BypassCorsPreflight: true}
	var anyOf, each []*jwtv3.JwtRequirement
	for i, r := range rules {
		p, err := a.provider(r, t)
		if err != nil {
			return r.from.wrap(fmt.Errorf("%s.%w", r.path, err))
		}
		name := "origins-" + strconv.Itoa(i)
		config.Providers[name] = p
		valid := &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_ProviderName{ProviderName: name}}
		missing := &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_AllowMissing{AllowMissing: &emptypb.Empty{}}}
		anyOf = append(anyOf, valid)
		each = append(each, requiresAny(proto.CloneOf(valid), missing))
	}
	requires := each[0]
	if len(rules) > 1 {
		all := &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_RequiresAll{RequiresAll: &jwtv3.JwtRequirementAndList{Requirements: each}}}
		requires = requiresAny(append(anyOf, all)...)
	}
	config.Rules = []*jwtv3.RequirementRule{{
		Match:           &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		RequirementType: &jwtv3.RequirementRule_Requires{Requires: requires},
	}}
	a.Config = config
	return nil
}

func requiresAny(list ...*jwtv3.JwtRequirement) *jwtv3.JwtRequirement {
	return &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_RequiresAny{RequiresAny: &jwtv3.JwtRequirementOrList{Requirements: list}}}
}

func (a *Authentication) provider(r tokenRule, t *Target) (*jwtv3.JwtProvider, error) {
	p := &jwtv3.JwtProvider{
		Issuer: r.GetIssuer(), Audiences: r.GetAudiences(),
		Forward: r.GetForwardOriginalToken(), ForwardPayloadHeader: r.GetOutputPayloadToHeader(),
		PayloadInMetadata: jwtPayload, NormalizePayloadInMetadata: &jwtv3.JwtProvider_NormalizePayload{SpaceDelimitedClaims: spaceDelimited(r, t.Version)},
		ClearRouteCache: true, // routes of a waypoint may match on claims
		FromParams:      r.GetFromParams(), FromCookies: r.GetFromCookies(),
	}
	for _, c := range r.GetOutputClaimToHeaders() {
		p.ClaimToHeaders = append(p.ClaimToHeaders, &jwtv3.JwtClaimToHeader{HeaderName: c.GetHeader(), ClaimName: c.GetClaim()})
	}
	for _, h := range r.GetFromHeaders() {
		p.FromHeaders = append(p.FromHeaders, &jwtv3.JwtHeader{Name: h.GetName(), ValuePrefix: h.GetPrefix()})
	}
	if remote := t.remoteKeys(r.JWTRule); remote != nil {
		p.JwksSourceSpecifier = &jwtv3.JwtProvider_RemoteJwks{RemoteJwks: remote}
		return p, nil
	}
	keys, err := a.keys(r, t)
	p.JwksSourceSpecifier = &jwtv3.JwtProvider_LocalJwks{LocalJwks: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: keys}}}
	return p, err
}

// spaceDelimited lists the claims that are lists in one string, such as an OAuth scope.
func spaceDelimited(r tokenRule, v Version) []string {
	if !v.spaceDelimitedClaims() {
		return []string{"scope", "permission"}
	}
	claims := append([]string{"permission", "scope"}, r.GetSpaceDelimitedClaims()...)
	slices.Sort(claims)
	return slices.Compact(claims)
}

// headerName is what the API allows as the name of a header to write.
var headerName = regexp.MustCompile(`^[-_A-Za-z0-9]+$`)

// jwtRule checks a rule as istiod's admission webhook does.
func (c *checker) jwtRule(path string, r *securityv1beta1.JWTRule, unvalidated bool) {
	if len(r.GetSpaceDelimitedClaims()) > 0 && !c.version.spaceDelimitedClaims() {
		c.add(path+".spaceDelimitedClaims", fmt.Errorf("istiod %s does not know this field; it came with 1.28", c.version))
	}
	if unvalidated {
		return
	}
	c.values(path+".audiences", r.GetAudiences(), nil)
	if r.GetIssuer() == "" && r.GetJwksUri() == "" {
		c.add(path+".issuer", errors.New("neither issuer nor jwksUri"))
	}
	if r.GetJwksUri() != "" {
		_, _, err := keyServer(r.GetJwksUri())
		c.add(path+".jwksUri", err)
	}
	if keys := r.GetJwks(); keys != "" && json.Unmarshal([]byte(keys), &map[string]any{}) != nil {
		c.add(path+".jwks", errors.New("not a JSON object with keys"))
	}
	for i, h := range r.GetFromHeaders() {
		if h.GetName() == "" {
			c.add(fmt.Sprintf("%s.fromHeaders[%d].name", path, i), errors.New("empty"))
		}
	}
	c.values(path+".fromParams", r.GetFromParams(), nil)
	c.values(path+".fromCookies", r.GetFromCookies(), nil)
	for i, h := range r.GetOutputClaimToHeaders() {
		at := fmt.Sprintf("%s.outputClaimToHeaders[%d]", path, i)
		switch {
		case h.GetHeader() == "" || h.GetClaim() == "":
			c.add(at, errors.New("header and claim must both be set"))
		case !headerName.MatchString(h.GetHeader()):
			c.add(at+".header", fmt.Errorf("%q is no header name", h.GetHeader()))
		}
	}
	if d := r.GetTimeout(); d != nil && (d.CheckValid() != nil || d.AsDuration() < time.Millisecond || d.AsDuration()%time.Millisecond != 0) {
		c.add(path+".timeout", errors.New("want at least 1ms, in whole milliseconds"))
	}
}
