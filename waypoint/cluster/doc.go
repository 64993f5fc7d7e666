// Package cluster is what stands between a route's decision and a stream to an endpoint: which endpoint, over which hops, on
// which pooled connection.
//
// The configuration of a cluster is a program.Cluster, immutable and replaced by every push that changes it. What this package
// keeps is the other half, the state that must outlive a push (design: a push loses neither load-balancer nor connection
// state): requests in flight per endpoint, idle connections, tunnels. State hangs on names: a cluster's by Cluster.Name, an
// endpoint's by Endpoint.Key, a tunnel's connection by the hops that lead to it.
//
//	exchange ── Manager.Get ──► Cluster ── Pick ──► Host ── Acquire ──► Lease{Stream} ── Release ──► idle pool
//	tcpproxy ── Manager.Get ──► Cluster ── Pick ──► Host ── Connect ──► message.Conn
//
// Hops: an ambient pod is reached by [dial ip:15008, TLS, CONNECT ip:port]; the HTTP/2 connections made of the first two are
// shared by everything that goes to that pod, whichever service it belongs to.
//
// What the outcome of requests changes is here, too: Host.Report feeds outlier detection (outlier.go), Breakers counts what the
// circuit breakers bound (breakers.go).
//
// Lock order: Manager.mu, then Pool.mu or Host.mu; nothing is dialled, read or written under a lock.
package cluster
