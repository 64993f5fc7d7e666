package waypoint

import (
	"bytes"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// preface is how an HTTP/2 client with prior knowledge begins (RFC 9113, 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// maxSniff bounds what is read to tell a protocol: Envoy's http_inspector gives up after 8 KiB without the end of a first
// line, and then takes the bytes for something else.
const maxSniff = 8 << 10

// smallSniff is the first read's size: idle tunnels wait in it.
const smallSniff = 64

// sniff reads the first bytes of a tunnel until their protocol is clear, as the http_inspector does: HTTP/2's preface, or a
// first line that ends in an HTTP version. It returns what it read. A client that says nothing within timeout, or that ends,
// is program.Unknown with an error: listener_filters_timeout closes the connection.
func sniff(c message.Conn, timeout time.Duration) (program.Sniffed, []byte, error) {
	if timeout > 0 {
		t := time.AfterFunc(timeout, func() { c.Reset(message.ConnectError) })
		defer t.Stop()
	}
	buf := make([]byte, 0, smallSniff)
	for {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), 4*cap(buf))
			copy(grown, buf)
			buf = grown
		}
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if p, clear := classify(buf); clear || len(buf) >= maxSniff {
			return p, buf, nil
		}
		if err != nil {
			if len(buf) > 0 { // the client said less than a line and ended: not HTTP
				return program.Unknown, buf, nil
			}
			return program.Unknown, nil, err
		}
	}
}

// classify tells the protocol of a connection's first bytes; clear is false while more are needed.
//
// As Envoy's inspector: HTTP/1.0 and a request line without a version count as HTTP/1.1, and so does a method that nobody
// knows; the codec then answers 426 or 400. Stricter in one point: a first word that is not in capitals is no method, so a
// client of another protocol does not wait for a line that never ends. It gets the TCP chain, where an HTTP policy denies.
func classify(b []byte) (p program.Sniffed, clear bool) {
	if b, clear = skipEmptyLine(b); !clear {
		return program.Unknown, false
	}
	if len(b) >= len(preface) && string(b[:len(preface)]) == preface {
		return program.H2C, true
	}
	if len(b) < len(preface) && string(b) == preface[:len(b)] {
		return program.Unknown, false
	}
	method := bytes.IndexByte(b, ' ')
	word := b
	if method >= 0 {
		word = b[:method]
	}
	for _, c := range word {
		if (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return program.Unknown, true
		}
	}
	end := bytes.IndexByte(b, '\n')
	switch {
	case method == 0 || len(word) > maxMethod:
		return program.Unknown, true
	case end < 0:
		return program.Unknown, false
	}
	line := bytes.TrimSuffix(b[:end], []byte("\r"))
	target := line[min(method+1, len(line)):]
	if v := bytes.LastIndexByte(target, ' '); v >= 0 && bytes.HasPrefix(target[v+1:], []byte("HTTP/")) {
		return program.HTTP11, true
	}
	if len(target) > 0 && target[0] == '/' { // no version: HTTP/0.9, or a mistake
		return program.HTTP11, true
	}
	return program.Unknown, true
}

// skipEmptyLine takes one empty line off, as every HTTP server does with one before a request (RFC 9112, 2.2): else a client could
// take its requests past what the HTTP chain does. clear is false while it may still become one.
func skipEmptyLine(b []byte) (rest []byte, clear bool) {
	switch {
	case bytes.HasPrefix(b, []byte("\r\n")):
		b = b[2:]
		return b, len(b) > 0
	case len(b) > 0 && b[0] == '\n':
		b = b[1:]
		return b, len(b) > 0
	case len(b) == 1 && b[0] == '\r':
		return b, false
	}
	return b, true
}

// maxMethod is longer than any registered method.
const maxMethod = 32
