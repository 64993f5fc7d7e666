// Package istio makes of Istio's AuthorizationPolicy and RequestAuthentication objects the Envoy configuration that istiod
// makes of them for an ambient waypoint, and tells who enforces a policy.
//
//	rules, err := istio.Compile(policies, istio.Target{
//		Gateway: istio.Object{Namespace: "default", Name: "waypoint"},
//		Objects: []istio.Object{{Kind: "Service", Namespace: "default", Name: "helloworld"}},
//	})
//	chain, err := rules.Chain()    // compiled, to decide with
//	filters := rules.HTTPFilters() // or as protobuf, for xDS
//
//	jwt, err := istio.Authenticate(requestAuthentications, target)
//	enforcement := mesh.WhoEnforces(&policy)
//
// A [Target] is one filter chain of a waypoint: of a service's port, or of traffic to workloads. A waypoint does not look at
// workload selectors: a policy applies to it by targetRefs alone.
//
// # What it promises
//
//   - The output equals that of istiod's own builder: byte for byte, once keys of maps are sorted. Differences between
//     releases are selected by [Version]. e2e/istiod tests it against the builders of 1.24.0, 1.27.0 and the main branch of August
//     2026; for the releases between, where a change came in was read off their sources.
//   - What the API server would refuse is an error that names policy and field (see Target.Unvalidated for the other way). Not
//     so what is harmless: DENY and CUSTOM policies without rules, and a dry run that istiod does not follow, which is enforced.
//   - Nothing is left out in silence: [Rules.Skipped] lists policies that do not apply, each with the reason, and the parts
//     of policies that istiod leaves out; [Rules.Notes] those that apply otherwise than they are written.
//   - The result depends on its arguments only, and nothing of them is changed.
//
// # What a TCP port does with HTTP attributes
//
// It does not see them. A rule of an ALLOW policy goes as a whole; in DENY, AUDIT and CUSTOM only the attribute goes, and the
// rule matches more. Both err on the strict side.
//
// # Where an older istiod is unsafe
//
// Releases before 1.28.7 and 1.29.3 put names into regular expressions without quoting, so that "my.app" also stands for
// "myXapp". Asked for such a release the same is made, since that is what its waypoints enforce, and a note says so.
//
// # Where istiod is not followed
//
// A key set that could not be fetched is an error before 1.27.8, 1.28.5 and 1.29.1: istiod then sent a key whose private half
// is in its source.
package istio
