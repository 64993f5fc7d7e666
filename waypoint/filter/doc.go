// Package filter is the contract between the life of a request and what stands in its way: HTTP filters, network filters, and
// the compiler that builds them from xDS.
//
// An HTTP filter sees the request's head before it is routed, in the order of the chain, and the response's head on its way
// back, in the reverse order. It runs on the request's own goroutine, so it may block (a call to an authorization server), and
// the data path waits for it and for nobody else. It may change heads, write dynamic metadata, or end the request with
// [Exchange.Reply]; whatever it says after Stop is not heard.
//
// A network filter sees a connection (a tunnel) before a terminal filter gets it, and before anything is dialled: a denied
// connection reaches no backend. (Envoy runs network RBAC at the client's first byte, by which time a server-first backend has
// been dialled and has spoken.)
//
// A filter instance is compiled once for its place in a chain and used by all requests of that chain at the same time: it is
// immutable, or does its own locking. Two filters of one chain may share a name (three RBAC filters do): nothing is looked up
// by name, save per-route configuration, as in Envoy.
//
// Each filter has a directory of its own, filter/<name>, with a doc comment in this form:
//
//	What it does · Configured by (type URL, fields honoured) · Refuses (fields that make the chain fail closed)
//	Writes (metadata, headers, response flags and details)
package filter
