// Package telemetry defines what the proxy tells about one finished HTTP request or TCP connection.
//
// A [Record] is filled by whoever carried the exchange and is then handed, unchanged, to the metrics, the access log and
// the tracer. All three read the same fields, so that they can never disagree about what happened:
//
//	exchange ──► Record ──┬──► telemetry/metrics    istio_requests_total{…}
//	                      ├──► telemetry/accesslog  one line, by a format that came over xDS
//	                      └──► telemetry/tracing    one SERVER span
//
// Package telemetry/format compiles Envoy's format language (%REQ(:PATH)%, %RESPONSE_FLAGS%, …) to operators over a Record;
// access logs, span tags and header values share it.
//
// Promises: the packages of this tree import nothing else of the project; the hot paths of metrics and of text formats do not
// allocate in steady state; no exporter, log sink or collector ever blocks a request: queues are bounded and what is dropped
// is counted.
package telemetry
