package istio

import (
	"fmt"
	"slices"
	"strconv"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	securityv1beta1 "istio.io/api/security/v1beta1"
)

// DryRun is the annotation that has a policy evaluated and reported, but not enforced.
const DryRun = "istio.io/dry-run"

// Policy is an AuthorizationPolicy object.
type Policy struct {
	Namespace, Name string
	Annotations     map[string]string
	Spec            *securityv1beta1.AuthorizationPolicy
}

// Object is what a targetRef may name. Group is "" for a Service.
type Object struct {
	Group, Kind, Namespace, Name string
}

// Target says what is being protected: one filter chain of a waypoint.
type Target struct {
	// Gateway is the waypoint (Namespace and Name); policies that target it apply to all of its chains.
	Gateway Object
	// GatewayClass of the waypoint; default istio-waypoint. Policies in RootNamespace may target it.
	GatewayClass string
	// RootNamespace of the mesh; default istio-system.
	RootNamespace string
	// Objects are the Services and ServiceEntries behind the chain. None for a chain of workload traffic.
	Objects []Object
	// TrustDomains are the mesh's trust domain and its aliases: a principal of one of them, or of cluster.local, is taken for
	// all of them. With none, principals stay as they are written.
	TrustDomains []string
	// TCP translates for a port that is not HTTP.
	TCP bool
}

// Skipped is a policy, or a part of one, that does not apply to the target.
type Skipped struct {
	Namespace, Name string
	Why             string
}

func (s Skipped) String() string { return s.Namespace + "/" + s.Name + ": " + s.Why }

// Pair is what one action enforces and what it only evaluates (dry run). Nil: nothing.
type Pair struct {
	Enforced, Shadow *rbacv3.RBAC
}

// Rules are the rules of a target by action, in the order in which they are evaluated.
type Rules struct {
	Audit, Deny, Allow Pair
	// Skipped is in the order of the policies.
	Skipped []Skipped

	tcp bool
}

// Compile translates the policies that apply to the target. An error names the policy and the field.
func Compile(policies []Policy, t Target) (*Rules, error) {
	if t.GatewayClass == "" {
		t.GatewayClass = "istio-waypoint"
	}
	if t.RootNamespace == "" {
		t.RootNamespace = "istio-system"
	}
	out := &Rules{tcp: t.TCP}
	for i := range policies {
		p := &policies[i]
		if why, err := t.excludes(p); err != nil {
			return nil, p.wrap(err)
		} else if why != "" {
			out.skip(p, why)
			continue
		}
		if err := out.add(p, &t); err != nil {
			return nil, p.wrap(err)
		}
	}
	return out, nil
}

func (p *Policy) wrap(err error) error {
	return fmt.Errorf("AuthorizationPolicy %s/%s: %w", p.Namespace, p.Name, err)
}

func (r *Rules) skip(p *Policy, why string) {
	r.Skipped = append(r.Skipped, Skipped{p.Namespace, p.Name, why})
}

// excludes tells why a policy does not apply to the target; "" means that it does.
func (t *Target) excludes(p *Policy) (string, error) {
	refs := p.Spec.GetTargetRefs()
	if ref := p.Spec.GetTargetRef(); ref != nil {
		refs = append(slices.Clone(refs), ref)
	}
	if p.Spec.GetSelector() != nil {
		return "has a selector, which waypoints do not look at; name the Service or the Gateway in targetRefs", nil
	}
	if len(refs) == 0 {
		return "has no targetRefs: a waypoint enforces no policy of a whole namespace or mesh", nil
	}
	for i, ref := range refs {
		if ns := ref.GetNamespace(); ns != "" && ns != p.Namespace {
			return "", fmt.Errorf("targetRefs[%d].namespace: %q; a policy can only target objects of its own namespace", i, ns)
		}
		o := Object{ref.GetGroup(), ref.GetKind(), p.Namespace, ref.GetName()}
		switch o.Kind {
		case "Gateway":
			if o.Group == "gateway.networking.k8s.io" && o.Name == t.Gateway.Name && o.Namespace == t.Gateway.Namespace {
				return "", nil
			}
		case "GatewayClass":
			if o.Group == "gateway.networking.k8s.io" && o.Name == t.GatewayClass && p.Namespace == t.RootNamespace {
				return "", nil
			}
		case "Service", "ServiceEntry":
			if o.Group == "core" {
				o.Group = ""
			}
			if slices.Contains(t.Objects, o) {
				return "", nil
			}
		default:
			return "", fmt.Errorf("targetRefs[%d].kind: %q; known are Service, ServiceEntry, Gateway and GatewayClass", i, o.Kind)
		}
	}
	return "targets other objects", nil
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
		return fmt.Errorf("action: %s is not supported; ALLOW, DENY and AUDIT are", p.Spec.GetAction())
	}
	into := &pair.Enforced
	if text, ok := p.Annotations[DryRun]; ok {
		dry, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("annotation %s: %q is neither true nor false", DryRun, text)
		}
		if dry {
			into = &pair.Shadow
		}
	}
	if *into == nil {
		*into = &rbacv3.RBAC{Action: action}
	}
	rules := *into
	if rules.Policies == nil {
		rules.Policies = map[string]*rbacv3.Policy{}
	}
	if len(p.Spec.GetRules()) == 0 {
		rules.Policies[p.key(0)] = never()
		return nil
	}
	for i, rule := range p.Spec.GetRules() {
		tr := translator{target: t, namespace: p.Namespace, allow: action == rbacv3.RBAC_ALLOW}
		policy, err := tr.rule(rule)
		if err != nil {
			return fmt.Errorf("rules[%d].%w", i, err)
		}
		for _, why := range tr.dropped {
			r.skip(p, fmt.Sprintf("rules[%d]: %s", i, why))
		}
		if policy != nil {
			rules.Policies[p.key(i)] = policy
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
