// Package cel evaluates CEL expressions over a [telemetry.Record], with Envoy's attribute vocabulary.
//
//	p, err := env.Compile(`response.code >= 400 && !request.path.startsWith("/healthz")`)
//	if p.Bool(&record) { … }
//
// The attributes are those of Envoy's "Attributes" page: request, response, connection, upstream, source, destination, metadata,
// filter_state, upstream_filter_state and xds; besides, as in Istio's metrics, node, downstream_peer and upstream_peer. Types are
// Envoy's, too: response.code is an int, connection.id a uint, request.time a timestamp, request.duration a duration, and filter
// state that is text is bytes.
//
// An attribute that is not there is an error, and so is an expression that makes no sense of its operands. An error is false for
// a filter, absent for a log operator and "unknown" for a metric's label. There is no error to be had at run time, because nobody
// could do anything about it; what never can be there is named when the expression is compiled: see [Program.Unavailable].
//
// Differences from Envoy. The whole standard library of CEL is there, macros and string concatenation included, which Envoy's
// access log has not or only if asked (cel_config); macros cannot be nested. connection.mtls and the URI SANs tell of the tunnel, as
// %DOWNSTREAM_PEER_URI_SAN% does; Envoy, which looks at the connection inside the tunnel, finds no TLS there. A peer's labels are
// made of what workload discovery knows (app, version, and the canonical name and revision), where Istio has none.
//
// An [Env] costs nothing until the first expression is compiled; then some 300 KiB, and one expression 1 to 2 KiB. Expressions are
// evaluated without being type-checked first, as in Envoy, since nearly all attributes are dynamic.
package cel
