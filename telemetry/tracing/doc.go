// Package tracing makes one span of kind SERVER for each request, and sends it to Zipkin or to an OTLP collector.
//
//	provider := tracing.NewProvider(tracing.Options{…})           // one per process: exporters are shared
//	tracer, unhonoured, err := provider.Tracer(hcm.GetTracing())  // one per HTTP connection manager
//
//	id, reason := tracer.Decide(headers, requestID)               // per request: sampling, written into the request id
//	span := tracer.Start(headers, reason)                         // reads the caller's trace context
//	span.Inject(upstreamHeaders)                                  // becomes the parent of what the backend does
//	span.Finish(&record, operation)                               // exported if sampled
//
// Sampling follows Envoy: the 15th character of x-request-id tells 4 = not traced, 9 = sampled, a = forced by the service,
// b = forced by the client; a caller's trace context decides for the trace it belongs to.
//
// A tracing block without a provider (what istiod sends by default) decides, and marks the request id, but makes no span and
// adds no header, as in Envoy without a tracer.
//
// Exporting never blocks a request: spans go to a bounded queue; what does not fit, and what a collector does not take, is
// counted (Provider.Counts).
package tracing
