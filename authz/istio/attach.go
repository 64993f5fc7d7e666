package istio

import (
	"slices"

	typev1beta1 "istio.io/api/type/v1beta1"
)

// WaypointClass is the GatewayClass of waypoints, which a policy in the root namespace may target.
const WaypointClass = "istio-waypoint"

// Groups of what a targetRef may name; istiod writes "core" for the empty one.
const (
	gatewayGroup = "gateway.networking.k8s.io"
	istioGroup   = "networking.istio.io"
)

var targetGroups = map[string]string{"Service": "", "ServiceEntry": istioGroup, "Gateway": gatewayGroup, "GatewayClass": gatewayGroup}

// attachable is a policy of either kind.
type attachable interface {
	GetSelector() *typev1beta1.WorkloadSelector
	GetTargetRef() *typev1beta1.PolicyTargetReference
	GetTargetRefs() []*typev1beta1.PolicyTargetReference
}

// targetRefs lists what a policy names. The older targetRef counts only where there are no targetRefs.
func targetRefs(p attachable) []*typev1beta1.PolicyTargetReference {
	refs := p.GetTargetRefs()
	if len(refs) == 0 && p.GetTargetRef() != nil {
		refs = []*typev1beta1.PolicyTargetReference{p.GetTargetRef()}
	}
	return refs
}

// knownTarget tells whether a reference has a kind that policies may name, with the group of that kind.
func knownTarget(ref *typev1beta1.PolicyTargetReference) bool {
	group, ok := targetGroups[ref.GetKind()]
	return ok && canonicalGroup(ref.GetGroup()) == group
}

func canonicalGroup(group string) string {
	if group == "core" {
		return ""
	}
	return group
}

// excludes tells why a policy in a namespace does not apply to the target; "" means that it does.
func (t *Target) excludes(kind, namespace string, p attachable) string {
	refs := targetRefs(p)
	if len(refs) == 0 {
		if p.GetSelector() != nil {
			return "has a selector, which waypoints do not look at; name the Service or the Gateway in targetRefs"
		}
		return "has no targetRefs: a waypoint enforces no policy of a whole namespace or mesh"
	}
	if !t.looksIn(kind, namespace) {
		return "is in a namespace where this version of istiod does not look for policies of this waypoint's chain"
	}
	for _, ref := range refs {
		if knownTarget(ref) && t.isNamedBy(ref, namespace) {
			return ""
		}
	}
	return "targets other objects"
}

// isNamedBy tells whether a policy's reference is to the target.
func (t *Target) isNamedBy(ref *typev1beta1.PolicyTargetReference, namespace string) bool {
	switch ref.GetKind() {
	case "Service", "ServiceEntry":
		return slices.ContainsFunc(t.Objects, func(o Object) bool {
			return o.Kind == ref.GetKind() && o.Name == ref.GetName() && o.Namespace == namespace
		})
	case "GatewayClass":
		return t.Version.ownNamespaces() && namespace == t.RootNamespace && ref.GetName() == WaypointClass
	}
	if t.Gateway.Name == "" || ref.GetName() != t.Gateway.Name {
		return false
	}
	if ns := ref.GetNamespace(); ns != "" && ns != t.Gateway.Namespace {
		return false
	}
	return namespace == t.Gateway.Namespace || !t.Version.ownNamespaces()
}

// looksIn tells whether istiod considers a namespace's policies. Since 1.25 it looks wherever one may be that matches.
func (t *Target) looksIn(kind, namespace string) bool {
	if t.Version.ownNamespaces() {
		return true
	}
	if kind == "AuthorizationPolicy" && len(t.Objects) > 0 {
		return slices.ContainsFunc(t.Objects, func(o Object) bool { return o.Namespace == namespace })
	}
	return namespace == t.Gateway.Namespace || namespace == t.RootNamespace
}
