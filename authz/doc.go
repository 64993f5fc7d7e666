// Package authz decides whether a request may pass, and says why.
//
// It is pure: no I/O, no proxy types, no clock. A front end (authz/rbac for Envoy's RBAC protobufs) turns
// configuration into a tree of [Clause] values; [Compile] turns those into an immutable [PolicySet]; one
// evaluator (eval.go) decides.
//
//	set, err := authz.Compile(authz.Allow, []authz.Policy{{
//		Name:        "ns[shop]-policy[read-only]-rule[0]",
//		Permissions: []authz.Clause{&authz.Header{Name: ":method", Pattern: authz.Exact("GET")}},
//		Principals:  []authz.Clause{authz.Always{}},
//	}})
//	d := set.Decide(&authz.Request{HTTP: true, Method: "GET", Path: "/"})
//	// d.Allowed, d.Policy, d.Details
//
// # What it promises
//
//   - The verdict is Envoy's for the same rules and attributes, apart from the deliberate differences below.
//   - [PolicySet.Decide] does not allocate, except what the caller's own attribute look-ups allocate and
//     rarely a buffer for a repeated header.
//   - [PolicySet.Explain] evaluates with the same function as Decide, so that both give one verdict.
//   - A PolicySet never changes after Compile and may be used by any number of goroutines at once. A Request
//     is only read, and not kept.
//   - A nil *PolicySet enforces nothing: it allows. An empty Allow set denies everything.
//
// # Several policies
//
// Policies are tried in the byte order of their names, as Envoy's sorted map does, and the first that matches is
// the one reported: rule[10] is tried before rule[2].
//
// # Two readings of an uncertain attribute
//
// Some attributes do not have one plain value: a header sent on two lines, an address that the proxy does not
// know, bytes that are not UTF-8 before a regular expression. A clause over such an attribute has two readings:
// it certainly holds (every value matches), or it possibly holds (some value matches, or the values joined with
// commas do). A policy that allows must certainly match; one that denies or logs needs only possibly match;
// negation swaps the two. So an allow never rests on the friendlier of two header lines, and a deny is never
// dodged by adding a second one, however deep the negations. Where an attribute has one plain value both
// readings agree, and the verdict is Envoy's.
//
// # Differences from Envoy
//
//   - Envoy 1.40 matches repeated headers one by one and takes any match, for allowing too. Here an allow needs
//     all of them to match. A deny also sees the comma-joined value, which Envoy older than CVE-2026-26308 used.
//   - Envoy treats a peer without an IP address as outside every range, so a deny by address lets it through.
//     Here an unknown address refuses: no allow matches it, every deny does.
//   - RE2 never matches bytes that are not UTF-8, so a deny by regular expression can be dodged with one. Here a
//     deny reads such a byte as one unknown character.
package authz
