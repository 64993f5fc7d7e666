// Package istio makes Envoy RBAC rules of Istio AuthorizationPolicy objects, as istiod does for an ambient waypoint.
//
//	rules, err := istio.Compile(policies, istio.Target{
//		Gateway: istio.Object{Namespace: "default", Name: "waypoint"},
//		Objects: []istio.Object{{Kind: "Service", Namespace: "default", Name: "helloworld"}},
//	})
//	filters, err := rules.Filters() // compiled, to decide with
//	configs := rules.HTTP()         // or as protobuf, for xDS
//
// A waypoint does not look at workload selectors: a policy applies to it by targetRefs alone. [Rules.Skipped] lists the
// policies that do not apply, each with the reason, and the parts of policies that a TCP port cannot see.
//
// # What it promises
//
//   - Nothing is left out in silence. A policy that cannot be translated is an error that names policy and field; then
//     the caller must refuse the traffic.
//   - Where istiod loosens nothing but drops a rule (HTTP attributes on TCP ports), the same rule is dropped here, and
//     reported: an ALLOW rule goes as a whole, in DENY and AUDIT rules only the attribute goes. Both err on the strict side.
//   - The result depends on its arguments only, and Compile keeps nothing of them.
//
// # Not supported
//
// Action CUSTOM (it needs the mesh's extension providers) is an error. Selectors and namespace-wide policies are
// ztunnel's and sidecars' matter and are reported as skipped.
package istio
