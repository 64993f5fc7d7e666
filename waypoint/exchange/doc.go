// Package exchange is the life of one HTTP request. Each step is a function that can be read alone; it ends the request or
// hands it on:
//
//	readHead    request.go   a malformed head is answered with its status
//	prepare     request.go   normalise the path, sanitise headers, request id, trace
//	filters     filters.go   the chain's filters, in the order of the config, by position
//	forward     forward.go   route, then cluster, endpoint and stream; try again as the retry policy says
//	respond     response.go  the response's head through the filters in reverse, its body and trailers
//	finish      record.go    one record goes to metrics, access log and span
//
// A local reply (reply.go) is one function: body, status, response flag and details, as Envoy's.
//
// HTTP/1.1 and HTTP/2 differ only in who implements message.Stream; nothing here asks which it is, save for telemetry and for
// the choice of the upstream protocol.
//
// Concurrency: a request is one goroutine. A second one carries the request's body when it is not all there yet, so that
// bodies stream both ways at once. The connection's reader calls onDownReset when the client gives up; it only marks the
// exchange and resets the upstream stream.
//
// The configuration is taken once per request, when its head has been read, and used to its end: a push holds for the next
// request, also on a connection that is kept.
package exchange
