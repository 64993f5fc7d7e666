// Package differential asks authz and a real Envoy the same questions and compares what they say: the verdict, and the policy
// that is named for it.
//
// A question is a pair of policies (the RBAC filters of a chain, in their order) and a request on a connection. Pairs are made
// by generators from a seed, aimed at the edges of the policies' own constants. The parts are
//
//   - pair: sets, requests and connections; a request's form on the wire, and what a filter sees of it
//   - gen: the generators, for AuthorizationPolicy objects and for RBAC protobufs, and for requests
//   - oracle: a plain reading of the RBAC protobufs as Envoy means them, with each deliberate difference of authz as a switch
//   - shrink: makes a failing pair small
//   - reference: drives the real Envoy
//
// All but the last are pure and tested without an Envoy.
//
// # What counts as a difference
//
// authz is safer than Envoy in a few listed cases ([oracle.Exceptions]). Where the two disagree, the disagreement is explained
// only if the oracle without any exception says exactly what Envoy said, and the oracle with the exceptions says exactly what
// authz said, policy names and shadow results included. So an exception cannot hide another difference, and each is counted.
// Everything else fails the test, is made small, and is printed as a fixture of authz/rbac.
//
// What Envoy itself refuses as malformed (400) is no pair, and is counted apart. That the request was seen alike is checked on
// every pair: Envoy echoes the path, authority, method, scheme and remote address that its filters saw.
package differential
