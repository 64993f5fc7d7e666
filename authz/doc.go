// Package authz decides whether a request may pass, and says why: as Envoy does under the policies that istiod sends, without
// either of them.
//
// It is pure: no I/O, no proxy types, no clock. A front end makes [Policy] values, which are trees of [Clause]: authz/rbac out of
// Envoy's RBAC protobufs, authz/istio (through those) out of AuthorizationPolicy objects. [Compile] makes a [PolicySet] of them,
// which never changes; [PolicySet.Decide] gives the verdict.
//
//	set, err := authz.Compile(authz.Allow, []authz.Policy{{
//		Name:        "ns[shop]-policy[read-only]-rule[0]",
//		Permissions: []authz.Clause{&authz.Header{Name: ":method", Pattern: authz.Exact("GET")}},
//		Principals:  []authz.Clause{authz.Always{}},
//	}})
//	d := set.Decide(&authz.Request{HTTP: true, Method: "GET", Path: "/"})
//	// d.Allowed; d.Policy and d.Source, which matched; d.Details, what Envoy logs of a denial
//
// [PolicySet.Explain] gives the same verdict with the reasons: of each policy the clauses that kept it from matching, with what
// they wanted and what there was, and which policy came nearest. [PolicySet.ExplainTop] does so for the few that matter. An
// [Explanation] prints as text and marshals to JSON; it quotes the request, so treat it as confidential.
//
// A [Chain] is what a request meets in a waypoint, stage by stage: CUSTOM, AUDIT, DENY, ALLOW. Its [Verdict] has the matches of
// CUSTOM and AUDIT and the results of dry runs beside the decision. The examples show each of these.
//
// # What it promises
//
// Stability: packages authz, authz/rbac and authz/istio follow semantic versioning from v1 on, the JSON of explanations included.
// Fields and clauses may be added; so write literals of structs with field names, and expect an unknown [Clause] where you
// switch over them. Text for people (String, the wording of reasons and errors) may change. What is below authz/x may change in
// any release.
//
// Verdicts: Envoy's for the same rules and attributes, apart from the deliberate differences below. A change of a verdict is a
// bug fix or a breaking change, and is in the release notes either way.
//
// Concurrency and lifetime: a PolicySet, a Chain and everything returned may be used by any number of goroutines at once. A set
// copies what it is compiled from. A Request is only read, and nothing of it is kept when Decide returns, so its strings may then
// be overwritten; an Explanation has copies. Decide calls the Request's interfaces on its own goroutine, perhaps several times for
// one name.
//
// Cost: Decide does not allocate, apart from what the Request's own methods allocate, and buffers for attributes with several
// values until there is one to reuse. It stays below 50 ns for a policy that asks for a method and, where the policies ask for
// something that can be looked up, below a microsecond for 100,000 of them. See the benchmarks.
//
// # Traps
//
//   - A nil *PolicySet enforces nothing: it allows. An empty Allow set denies everything. The zero Decision and Verdict deny.
//   - A Verdict with Custom set is not the last word: somebody else has to agree.
//   - Request.HTTP is false in the zero Request: that is a TCP connection, which has no method, path or header.
//   - Request.Path has to be normalised already, as the listener would (authz/pathnorm). Envoy does not decode it for policy.
//   - Authority has the port that the client wrote: a policy for shop.example.com does not see shop.example.com:8080.
//   - An address that is not set is unknown, which denies. It is not "no address".
//   - Policies of an Allow set are alternatives. To narrow what another one allows takes a Deny set.
//
// # Several policies
//
// Policies are tried in the byte order of their names, and the first that matches is the one reported: rule[10] before rule[2],
// ns[foo-bar] before ns[foo]. So does Envoy, whatever order the configuration has them in: its engine keeps them in a std::map
// by name and stops at the first match (policies_ and checkPolicyMatch in engine_impl.h and .cc below
// source/extensions/filters/common/rbac; a real Envoy 1.40.0 named the same policies). [CompileOrdered] is for Envoy's matcher
// trees, where the order is written.
//
// # Two readings of an uncertain attribute
//
// Some attributes do not have one plain value: a header sent on two lines, an address that the proxy does not
// know. A clause over such an attribute has two readings: it certainly holds (every value matches), or it possibly
// holds (some value matches, or the values joined with commas do). A policy that allows must certainly match; one that denies or logs needs only possibly match;
// negation swaps the two. So an allow never rests on the friendlier of two header lines, and a deny is never
// dodged by adding a second one, however deep the negations. Where an attribute has one plain value both
// readings agree, and the verdict is Envoy's.
//
// # How a large set is decided
//
// The evaluator (eval.go) tries one policy after the other, and reads as the semantics do. For a few policies it is also the
// fastest. From six on an index chooses which ones it tries:
//
//   - Keys. Off each policy are read conditions that are necessary for it to match, in a form that can be looked up: "the path is
//     /a or /b", "the path begins with /api/", "the namespace in the peer's identity is shop". Each is a list of keys, one of
//     which a request must have. What is below a negation, or asks for something in the middle of a value, is no key.
//   - Nodes. A node divides policies by their keys. Each policy goes by the condition whose most frequent key is rarest among the
//     policies there: by path where they all share a principal, by principal where they share a path. Policies under one key, if
//     many, are divided again by what else they need. A policy without a condition is tried for every request.
//   - Tables. Exact values are in maps. Beginnings, and ends, are in sorted lists where each text links to the longest one that it
//     begins with itself, so that one binary search finds all that a value begins with; ranges of addresses likewise. The peer's
//     identity is divided into namespace and service account once for each request.
//   - The search keeps the place of the first policy that has matched so far, and leaves each list of candidates where it comes to that
//     place. Nothing is merged or sorted, and nothing allocated. That no policy matches is found by the same few lookups.
//   - A search has a limit: when it has taken twice as many steps as there are members, all are tried in turn. So a header on a hundred
//     lines, each of which leads to the same policies, costs at most a few times what it would without an index.
//
// A candidate is always tried in full, by the plain evaluator: keys only say whom to try. So an index can be wrong in one way only, by
// leaving one out, and it has all values that may make a clause hold: each line of a header and the lines joined, where a policy
// need only possibly match; all ranges, where an address is not known. The random tests and FuzzIndexedIsPlain hold the two
// against each other.
//
// An Or of ten or more alternatives has an index of its own, of the same make. Six and ten are where lookups begin to cost less than
// trying (BenchmarkCrossover: two to six policies, four to twelve alternatives, by kind). An index adds 25 to 80 bytes to
// the 250 to 800 that a policy has (BenchmarkMemory), and is bounded by twice the number of clauses, whatever they share.
//
// # Differences from Envoy
//
//   - Envoy 1.40 matches repeated headers one by one and takes any match, for allowing too. Here an allow needs
//     all of them to match. A deny also sees the comma-joined value, which Envoy older than CVE-2026-26308 used.
//     Of the headers that Envoy keeps on one line ([OneLine]) it matches the joined value alone; here an allow needs that
//     to match as well, and a deny goes by any line too.
//   - Envoy treats a peer without an IP address as outside every range, so a deny by address lets it through.
//     Here an unknown address refuses: no allow matches it, every deny does.
//   - To Envoy an IPv4 address in IPv6 form (::ffff:10.0.0.1), as x-forwarded-for may hold, is in ranges of IPv6 only.
//     Here it is possibly in those of the IPv4 address too, so that a deny of 10.0.0.0/8 sees it; an allow goes by Envoy's reading.
//   - To Envoy a TLS client without a certificate is authenticated, by the empty name. Here it is nobody: such a
//     [Request] has no Peer.
package authz
