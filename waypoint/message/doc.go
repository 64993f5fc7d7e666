// Package message is what HTTP/1.1 and HTTP/2 have in common: a head, a body that streams, perhaps trailers, and a way to
// give up. The life of a request (package exchange) is written against [Stream] only, on both of its sides, so that a request
// that comes in as HTTP/2 and leaves as HTTP/1.1, or the other way round, is no case of its own.
//
// A Stream is one exchange as one peer sees it:
//
//	               downstream (server) side          upstream (client) side
//	ReadHead       the request                       a response; informational ones first
//	Read, Trailer  the request's body, trailers      the response's body, trailers
//	WriteHead      a response                        the request
//	Write, …       the response's body, trailers     the request's body, trailers
//
// Concurrency: one goroutine may read while another writes, so bodies stream both ways at once (gRPC). Reset and OnReset may
// be called from any goroutine. Everything else: one reader, one writer.
//
// What the codecs promise to the exchange, so that it need not know them:
//
//   - Framing is consumed. Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding and what Connection nominates never
//     show up in a head that was read, and are never taken from a head that is written. Content-Length stays, checked.
//   - An ambiguous message is an error ([Malformed]), never a guess.
//   - Upgrade: a request head with Upgrade set asks for another protocol; after a 101 (or a 2xx to CONNECT) Read and Write
//     carry raw bytes, and CloseWrite closes one direction.
//   - A body is never buffered beyond the codec's window.
package message
