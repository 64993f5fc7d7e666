// Package hbone is the tunnel: HTTP/2 CONNECT over mutual TLS, on port 15008 (HTTP-Based Overlay Network Environment).
//
// Accepting: [Serve] takes TCP connections, does the TLS handshake, checks that the client asked for h2 and showed a
// certificate, and runs an HTTP/2 server on which each stream is one CONNECT. What is inside a tunnel is none of this package's
// business: it hands each stream to a handler.
//
// Originating: [Connect] turns an HTTP/2 stream into a tunnel. Which connection the stream is on is package cluster's business.
//
// What a client sees, after ztunnel-observed and the contract's section H: a stream gets an answer in every case (ztunnel has
// no timeout on one); a 200 carries :status and nothing else (ztunnel breaks on content-length: 0); draining sends two GOAWAYs,
// the first at once.
package hbone
