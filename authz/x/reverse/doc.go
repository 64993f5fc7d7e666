// Package reverse reads AuthorizationPolicy objects out of the RBAC filters that istiod made of them.
//
//	found := reverse.Policies(filters)
//	for _, p := range found { … p.Spec, or p.Problem and p.Rules … }
//
// Nothing is guessed about rules: what comes out was converted once more by package istio, and is the same RBAC as what went in.
// A policy of which a rule has another shape than istiod's comes out with a Problem, and with its RBAC rules to look at.
//
// What RBAC does not tell is what the policy was attached to: targetRefs are the caller's to add. Nor does it tell two ways of
// writing the same apart, such as ports of an operation and a condition on destination.port; the shorter one is taken.
//
// This package is under x/: its API may change in any release.
package reverse
