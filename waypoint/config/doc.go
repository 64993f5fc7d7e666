// Package config makes a program.Program out of xDS resources, and takes a census of every field that was set in them.
//
// # How names are followed
//
// Envoy's waypoint config is a graph of names. [Compiler.Compile] follows it and knows no name of its own:
//
//	socket listener ─ chain ─ HTTP ─ route ─► cluster ─ internal endpoint ─► internal listener
//	                                                                          │
//	       it has a matcher, or a chain that ends in HTTP or plain TCP ───────┤──► program.Dispatch
//	       its one chain ends in a tcp_proxy with tunneling_config ───────────┘──► a path: hops to the next cluster
//
// A path becomes the hops of every endpoint that leads to it. What the chain of a path computes at run time in Envoy (the
// original destination, filter state, the CONNECT authority) depends on the endpoint alone, so it is computed here.
//
// # What is promised
//
//   - Pure: resources in, Program and Report out; no I/O, no clock. The Program is never changed afterwards.
//   - Incremental: a part whose resources have the same bytes as last time is the same pointer as last time.
//   - Nothing is passed over in silence: each field that is set has a line in fields.txt or appears in the [Report]; one that
//     could matter to security refuses the chain or cluster that holds it.
//   - A name that leads nowhere is no error: it becomes the answer that Envoy gives. A cycle is an error of what is in it.
//   - Whatever is in the resources, Compile neither panics nor yields a chain that lacks one of its filters and yet serves.
//
// [Validate] says what Envoy would not accept at all (a NACK); it is separate because a NACK keeps the last good version of the
// resource, while a refusal takes the place of the part that it concerns.
package config
