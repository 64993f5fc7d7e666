package lint

import (
	"fmt"
	"maps"
	"slices"

	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// tokens looks at policies and RequestAuthentications beside each other.
func (l *linter) tokens() {
	for _, p := range l.policies {
		for _, t := range p.tests() {
			if k := t.Dimension.Kind; k != alternative.Token && k != alternative.Claim {
				continue
			}
			field := t.Field
			if len(t.Values) == 0 {
				field = t.NotField
			}
			if l.authenticated(p) {
				break
			}
			what := "no request has a token then, and the rule never matches"
			if len(t.Values) == 0 {
				what = "no request has a token then, and the rule takes every request for one without"
			}
			fix := "add a RequestAuthentication with the same targetRefs"
			if n := len(l.set.Authentications); n > 0 {
				fix = fmt.Sprintf("give one the same targetRefs as this policy; the input has %d for other targets", n)
			}
			l.report(p, "jwt-without-authentication", field, fmt.Sprintf("%s needs a RequestAuthentication that reads tokens for the same target, and the input has none: %s", t.Name, what), fix)
			break // once for a policy
		}
	}
	for i := range l.set.Authentications {
		l.demanded(&l.set.Authentications[i])
	}
}

// authenticated reports whether some RequestAuthentication applies where the policy does.
func (l *linter) authenticated(p *policy) bool {
	return slices.ContainsFunc(l.set.Authentications, func(ra manifest.RequestAuthentication) bool { return l.meets(p, &ra) })
}

// meets reports whether a policy and a RequestAuthentication have a target in common.
func (l *linter) meets(p *policy, ra *manifest.RequestAuthentication) bool {
	refs := ra.Spec.GetTargetRefs()
	if ref := ra.Spec.GetTargetRef(); ref != nil {
		refs = append(slices.Clone(refs), ref)
	}
	if len(p.refs) == 0 && len(refs) == 0 {
		mine, theirs := p.Spec.GetSelector().GetMatchLabels(), ra.Spec.GetSelector().GetMatchLabels()
		inNamespace := ra.Namespace == p.Namespace || ra.Namespace == l.set.RootNamespace() || p.Namespace == l.set.RootNamespace()
		return inNamespace && (len(mine) == 0 || len(theirs) == 0 || maps.Equal(mine, theirs))
	}
	return slices.ContainsFunc(refs, func(ref *typev1beta1.PolicyTargetReference) bool {
		theirs := istio.Object{Group: ref.GetGroup(), Kind: ref.GetKind(), Namespace: ra.Namespace, Name: ref.GetName()}
		if theirs.Group == "core" {
			theirs.Group = ""
		}
		return slices.ContainsFunc(p.refs, func(mine istio.Object) bool {
			return mine == theirs || l.behind(mine, theirs) || l.behind(theirs, mine)
		})
	})
}

// behind reports whether a Service is led through a waypoint. What the input does not say may be so.
func (l *linter) behind(service, waypoint istio.Object) bool {
	switch {
	case service.Kind == waypoint.Kind:
		return false
	case waypoint.Kind == "GatewayClass":
		return true
	case waypoint.Kind != "Gateway" || service.Kind == "GatewayClass":
		return false
	}
	for _, s := range l.set.Mesh.Services {
		if s.Object == service {
			return s.Waypoint == nil || s.Waypoint.Namespace == waypoint.Namespace && s.Waypoint.Name == waypoint.Name
		}
	}
	return true
}

// demanded reports a RequestAuthentication whose tokens nobody asks for.
func (l *linter) demanded(ra *manifest.RequestAuthentication) {
	severity, on := l.severity["jwt-optional"]
	if !on || len(ra.Spec.GetJwtRules()) == 0 {
		return
	}
	for _, p := range l.policies {
		if p.dryRun || !l.meets(p, ra) {
			continue
		}
		for _, t := range p.tests() {
			if k := t.Dimension.Kind; k == alternative.Token || k == alternative.Claim {
				return
			}
		}
	}
	l.findings = append(l.findings, Finding{
		"jwt-optional", severity, "RequestAuthentication " + ra.Namespace + "/" + ra.Name, ra.At("spec.jwtRules"), "spec.jwtRules",
		"it refuses requests with a bad token and lets pass those without any, and no policy of the input demands a token",
		`add an AuthorizationPolicy for the same target that allows requestPrincipals: ["*"], or denies notRequestPrincipals: ["*"]`,
	})
}
