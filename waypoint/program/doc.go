// Package program holds what package config makes of istiod's xDS: one immutable Program that says, without a name to look up,
// what becomes of a byte that arrives.
//
// Envoy's waypoint config is a graph of listeners that lead to one another by name: connect_terminate (the HBONE port) has a
// route to cluster main_internal, whose endpoint is the internal listener main_internal, whose chains have routes to clusters
// whose endpoints are the internal listener connect_originate, whose tcp_proxy leads to cluster connect_originate. The Program
// is that graph with its names followed:
//
//	Listener ── TLS, HTTP/2 ──► HTTP (the CONNECT manager) ── route ──► Cluster ── endpoint ──► Dispatch
//	Dispatch ── address, port, sniffed protocol ──► Chain ──► HTTP or TCP ── route ──► Cluster ── endpoint ──► []Hop
//
// Lifetime: a Program is never changed after config.Compile returned it. Readers load the current one from an atomic pointer;
// parts of it are shared with the Programs before and after it. What changes while requests flow (load-balancer state, pools,
// health) lives in package cluster, under the cluster's name, and so outlives a push.
//
// Fail closed: a part that could not be compiled, or that holds a field which may not be passed over, is there with Refused set.
// Whoever meets it answers 500 (HTTP) or closes (TCP), and logs the reason.
package program
