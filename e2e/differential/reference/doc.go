// Package reference asks a real Envoy.
//
// One Envoy has an HTTP listener for each of pair.Listeners and one for TCP. All HTTP listeners share one route configuration,
// read from a file: [Envoy.Load] replaces it with one that has a route per set, chosen by a header, whose per-route
// configuration fills the RBAC filters. The answer's headers, added to local replies, tell what the filters decided and what
// they saw.
package reference
