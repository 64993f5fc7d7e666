package istio

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	"google.golang.org/protobuf/proto"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	securityv1beta1 "istio.io/api/security/v1beta1"
)

// DryRun is the annotation that has a policy evaluated and reported, but not enforced.
const DryRun = "istio.io/dry-run"

// Policy is an AuthorizationPolicy object. Versions v1 and v1beta1 of the API have the same spec.
type Policy struct {
	Namespace, Name string
	Annotations     map[string]string
	Spec            *securityv1beta1.AuthorizationPolicy
}

// Object is what a targetRef may name. Group is "" for a Service, and may be left out for the others.
type Object struct {
	Group, Kind, Namespace, Name string
}

func (o Object) String() string {
	if o.Namespace == "" { // of the cluster
		return strings.TrimSpace(o.Kind + " " + o.Name)
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Target says what is being protected: one filter chain of a waypoint.
type Target struct {
	// Version of istiod; default the newest.
	Version Version
	// Gateway is the waypoint (Namespace and Name); policies that target it apply to all of its chains.
	Gateway Object
	// RootNamespace of the mesh; default istio-system. A policy in it may target GatewayClass istio-waypoint.
	RootNamespace string
	// Objects are the Services and ServiceEntries behind the chain. None for a chain of workload traffic.
	Objects []Object
	// TrustDomains are the mesh's trust domain and its aliases; default cluster.local. A principal of one of them, or of
	// cluster.local, is taken for all of them.
	TrustDomains []string
	// TCP translates for a port that is not HTTP.
	TCP bool
	// Unvalidated takes policies that the API server would refuse, and does with them what istiod does, which is mostly
	// to leave out the rule. What is left out is in Rules.Skipped; a DENY policy may end up looser than it is written.
	Unvalidated bool

	// Providers are meshConfig.extensionProviders, for action CUSTOM.
	Providers []*meshv1alpha1.MeshConfig_ExtensionProvider
	// Hosts are the host names that istiod knows, each with the namespaces that have a service of that name: a provider
	// whose service is not among them cannot be asked, and what its policies match is denied. Nil takes every host as known.
	Hosts map[string][]string
	// MultipleProviders is istiod's PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS, false by default. It counts from 1.30.
	MultipleProviders bool

	// JWKS fetches what istiod would fetch for RequestAuthentications: the key set at jwksUri or, where a rule has neither
	// jwksUri nor jwks, the issuer's OpenID discovery document and then the key set that it names. An error, and nil, are
	// as a failed fetch: every token of that rule is refused. Compile calls it on the caller's goroutine and does not cache.
	JWKS func(uri string) (string, error)
	// JWKSFetch is istiod's PILOT_JWT_ENABLE_REMOTE_JWKS.
	JWKSFetch JWKSFetch
}

// Skipped is a policy, or a part of one, that does not apply to the target.
type Skipped struct {
	Namespace, Name string
	Why             string
}

func (s Skipped) String() string { return s.Namespace + "/" + s.Name + ": " + s.Why }

// Note is said about a policy that applies, but not as it is written.
type Note struct {
	Namespace, Name string
	Text            string
}

func (n Note) String() string { return n.Namespace + "/" + n.Name + ": " + n.Text }

// Pair is what one action enforces and what it only evaluates (dry run). Nil: nothing.
type Pair struct {
	Enforced, Shadow *rbacv3.RBAC
}

// Rules are the rules of a target by action, in the order in which they are evaluated.
type Rules struct {
	// Custom are by provider, in the order of their names.
	Custom             []Custom
	Audit, Deny, Allow Pair
	// Skipped and Notes are in the order of the policies, those of action CUSTOM last.
	Skipped []Skipped
	Notes   []Note

	tcp bool
}

// Compile translates the policies that apply to the target. An error names the policy and the field; there may be
// several, joined.
func Compile(policies []Policy, t Target) (*Rules, error) {
	t = t.withDefaults()
	out := &Rules{tcp: t.TCP}
	var custom []*Policy
	var errs []error
	for i := range policies {
		p := &policies[i]
		if problems := t.problems(p); len(problems) > 0 {
			errs = append(errs, problems...)
			continue
		}
		if why := t.excludes("AuthorizationPolicy", p.Namespace, p.Spec); why != "" {
			out.skip(p, why)
			continue
		}
		if !t.Unvalidated {
			if problems := validate(p, t.Version); len(problems) > 0 {
				errs = append(errs, problems...)
				continue
			}
		}
		if p.Spec.GetAction() == securityv1beta1.AuthorizationPolicy_CUSTOM {
			custom = append(custom, p)
			continue
		}
		if err := out.add(p, &t); err != nil {
			errs = append(errs, p.wrap(err))
		}
	}
	errs = append(errs, out.addCustom(custom, &t))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}

func (t Target) withDefaults() Target {
	t.Version = t.Version.resolve()
	if t.RootNamespace == "" {
		t.RootNamespace = "istio-system"
	}
	if len(t.TrustDomains) == 0 {
		t.TrustDomains = []string{"cluster.local"}
	}
	return t
}

// problems are those of a policy that may be for this target or not: where it cannot be told.
func (t *Target) problems(p *Policy) []error {
	if _, err := proto.Marshal(p.Spec); err != nil || !utf8.ValidString(p.Namespace+p.Name) {
		return []error{p.wrap(errors.New("text that is not UTF-8"))}
	}
	c := checker{version: t.Version, wrap: p.wrap}
	if !t.Unvalidated {
		c.attachment(p.Spec)
	}
	return c.errs
}

func (p *Policy) wrap(err error) error {
	return fmt.Errorf("AuthorizationPolicy %s/%s: %w", p.Namespace, p.Name, err)
}

func (r *Rules) skip(p *Policy, why string) {
	r.Skipped = append(r.Skipped, Skipped{p.Namespace, p.Name, why})
}

func (r *Rules) note(p *Policy, text string) {
	r.Notes = append(r.Notes, Note{p.Namespace, p.Name, text})
}

// add translates one policy and puts it where its action and its dry-run annotation say.
func (r *Rules) add(p *Policy, t *Target) error {
	var pair *Pair
	var action rbacv3.RBAC_Action
	switch p.Spec.GetAction() {
	case securityv1beta1.AuthorizationPolicy_ALLOW:
		pair, action = &r.Allow, rbacv3.RBAC_ALLOW
	case securityv1beta1.AuthorizationPolicy_DENY:
		pair, action = &r.Deny, rbacv3.RBAC_DENY
	case securityv1beta1.AuthorizationPolicy_AUDIT:
		pair, action = &r.Audit, rbacv3.RBAC_LOG
	default:
		return fmt.Errorf("action: %s is none of ALLOW, DENY, AUDIT and CUSTOM", p.Spec.GetAction())
	}
	return r.translate(p, t, pair.of(r.dryRun(p), action), "")
}

// dryRun reads the annotation. A value that is not a boolean does not make a dry run: istiod logs it and enforces.
func (r *Rules) dryRun(p *Policy) bool {
	text, ok := p.Annotations[DryRun]
	if !ok {
		return false
	}
	dry, err := strconv.ParseBool(text)
	if err != nil {
		r.note(p, fmt.Sprintf("annotation %s: %q is neither true nor false; the policy is enforced", DryRun, text))
	}
	return dry
}

// of returns the rules to add to, and makes them where there were none.
func (p *Pair) of(dryRun bool, action rbacv3.RBAC_Action) *rbacv3.RBAC {
	rules := &p.Enforced
	if dryRun {
		rules = &p.Shadow
	}
	if *rules == nil {
		*rules = &rbacv3.RBAC{Action: action, Policies: map[string]*rbacv3.Policy{}}
	}
	return *rules
}

// translate adds the rules of a policy under their keys, with a prefix.
func (r *Rules) translate(p *Policy, t *Target, into *rbacv3.RBAC, prefix string) error {
	if len(p.Spec.GetRules()) == 0 {
		into.Policies[prefix+p.key(0)] = never()
		return nil
	}
	for i, rule := range p.Spec.GetRules() {
		tr := translator{target: t, namespace: p.Namespace, allow: into.Action == rbacv3.RBAC_ALLOW}
		policy, err := tr.rule(rule)
		if err != nil {
			return fmt.Errorf("rules[%d].%w", i, err)
		}
		for _, why := range tr.dropped {
			r.skip(p, fmt.Sprintf("rules[%d]: %s", i, why))
		}
		for _, text := range tr.notes {
			r.note(p, fmt.Sprintf("rules[%d]: %s", i, text))
		}
		if policy != nil {
			into.Policies[prefix+p.key(i)] = policy
		}
	}
	return nil
}

// key is the name that a rule has in Envoy's configuration, logs and response code details.
func (p *Policy) key(rule int) string {
	return fmt.Sprintf("ns[%s]-policy[%s]-rule[%d]", p.Namespace, p.Name, rule)
}

// never is what becomes of a policy without rules: under ALLOW it denies everything, under DENY nothing. An empty rule
// list would be lost beside the rules of other policies; a policy that never matches shows in logs that there is one.
func never() *rbacv3.Policy {
	return &rbacv3.Policy{
		Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_NotRule{NotRule: anyPermission()}}},
		Principals:  []*rbacv3.Principal{{Identifier: &rbacv3.Principal_NotId{NotId: anyPrincipal()}}},
	}
}
