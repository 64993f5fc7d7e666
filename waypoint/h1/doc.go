// Package h1 reads and writes HTTP/1.1 messages (RFC 9112), as a server towards clients and as a client towards backends.
// Both sides are a [message.Stream] for each exchange, over a [message.Conn].
//
// It is strict. What two HTTP implementations could read in two ways is refused with a [message.Malformed], never repaired:
// bare LF and bare CR, obs-fold, space before a colon, a second Host, Transfer-Encoding together with Content-Length, any
// repetition or list of Content-Length, any transfer coding but "chunked", chunk data that does not end where it said.
// Envoy repairs many of these; where it does, the comment beside the check says so.
//
// # Server
//
//	c := h1.NewServerConn(conn, h1.Options{})
//	for {
//		s, err := c.Next()      // waits for the first byte of a request; holds no buffer while it waits
//		if err != nil {
//			break               // io.EOF: the client left in order
//		}
//		serve(s)                // ReadHead, Read…, WriteHead, Write…, CloseWrite
//		if !c.Finish() {
//			break               // the connection has been closed
//		}
//	}
//	c.Close()
//
// When ReadHead returns a *message.Malformed, the answer (its Status) goes out through the same stream; the connection is
// closed afterwards, because where the next request would begin is not known.
//
// # Client
//
//	c := h1.NewClientConn(conn, h1.Options{})
//	for c.Reusable() {
//		s := c.Stream()         // one exchange at a time: WriteHead, Write…, CloseWrite; ReadHead, Read…
//	}
//
// # Upgrade and CONNECT
//
// A request head with Upgrade set, or CONNECT, is read with end == false. Until the switch, Read gives the (empty) body that
// HTTP framed; after WriteHead of a 101 (2xx to CONNECT) Read and Write carry raw bytes, those that the client sent too
// early first. Do not read before the switch, so that nothing reaches a backend which has not agreed (CVE-2025-64763).
// On the client side the switch is the ReadHead of the 101 or 2xx. A refused upgrade closes the connection.
//
// # Memory
//
// A connection holds a pooled buffer only while there are bytes in it: none while it waits for a request, for an answer, or in
// a body whose bytes go from the connection into the caller's slice. A head costs one allocation: the string of which
// all its names and values are parts.
//
// # Deliberate differences from Envoy
//
// All in the direction of refusing: see above; also an authority with user information, a percent sign, a comma or an
// empty port; a Host that is missing beside an absolute-form target; a body on a request that asks for an upgrade;
// white space after a chunk size; and Connection naming Host, Content-Length or Forwarded. A half-closed client still gets its answer, and small unread bodies are drained so that the
// connection can be kept.
package h1
