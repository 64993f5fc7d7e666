// Package h2 is an HTTP/2 connection (RFC 9113), as a server and as a client. The waypoint uses it for HBONE, which is CONNECT
// tunnels over TLS, and for HTTP/2 inside those tunnels.
//
//	bytes in ─► reader goroutine ─► streams' receive queues ─► one goroutine per stream
//	                 │ control frames                                │ frames
//	                 ▼                                               ▼
//	bytes out ◄── writer goroutine ◄──────────── the connection's output buffer
//
// The shape is what makes it fast. The reader takes what the transport has (a TLS record), parses every frame in it and wakes
// each stream once. Streams append frames to one output buffer; the writer yields the processor once before it writes, so that
// all streams of a batch have added their part, and then sends everything in one Write. A write per frame costs five times as
// much CPU.
//
// # What it promises
//
//   - The reader never waits for a stream or for the output. A PING is answered while every stream is stalled.
//   - A stream that nobody reads does not hold up its neighbours: the connection's window is given back as bytes arrive, a
//     stream's only as they are read. What can pile up is therefore the sum of the streams' windows; see [Budget].
//   - What breaks one stream resets that stream (malformed head, window overflow, one stream too many); only what RFC 9113
//     calls a connection error, and the abuse limits ([Limits]), end the connection. Envoy ends the connection for several of
//     the former.
//   - The peer's END_STREAM is a half-close: the other direction goes on.
//   - An idle stream holds its own struct and no buffer, an idle connection a 4 KiB read buffer.
//
// # Decisions where RFC 9113 leaves room
//
//   - Space and tab around a field value are cut off, as an HTTP/1.1 hop would do (RFC 9110, 5.5); senders that use Go or
//     curl do produce them. Every other control character makes the message malformed.
//   - A request whose header list is over the limit is answered with 431 by this package; the handler does not see it.
//   - Other malformed requests are reset with PROTOCOL_ERROR, as Envoy does; the handler does not see them either.
//   - Cookie lines are joined into one with "; " (8.2.3), at the place of the first, and each counts 32 bytes more towards the
//     header list.
//   - Host without :authority becomes the authority; one that differs from :authority is malformed.
//   - Extended CONNECT (RFC 8441) is read as GET with Upgrade, and its 200 as 101, so that policy and the HTTP/1.1 side see one
//     form; Envoy does the same.
//   - After a reset by the peer, bytes that were received but not read are dropped, as TCP does after RST.
//
// # Locks
//
// Taken in this order, never the other way: Stream.mu (receiving side), Conn.out.mu (output, HPACK encoder, sending windows),
// Conn.mu (the set of streams). No callback runs under a lock.
package h2
