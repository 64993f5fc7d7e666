// Package authzbench measures the policy library beside what else decides by policy: a real Envoy, through plain HTTP, and the Go
// libraries of Cedar and of Open Policy Agent. It is a module of its own, so that nobody else has their dependencies.
//
// All of them have the same rules and are asked the same requests ([Rules], [Sample]), and first they have to agree on the answers.
// The command cmd/bench-authz runs the measurements and writes the report; make bench-authz calls it.
//
// What a figure is: of a library, the processor time of one decision, by go test -bench and getrusage, the garbage collector's
// included, with whatever form it needs the request in made of plain strings each time. Of Envoy, the process's CPU time (user and system, from /proc) per request
// of a closed loop over kept HTTP/1.1 connections, answered by the proxy itself. That holds all that Envoy does for a request, so
// the row without RBAC stands beside it: the difference is what its policies cost.
package authzbench
