package h1

import (
	"strings"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// bodyKind is how a message's end is known (RFC 9112, 6.3).
type bodyKind uint8

const (
	noBody bodyKind = iota
	fixed           // Content-Length
	chunked
	untilEOF // the rest of the connection
	raw      // the rest of the connection, no longer HTTP
	dropped  // written only: a body that must not be sent (HEAD, 204, 304)
)

// framing is what a head says of the message around it.
type framing struct {
	kind      bodyKind
	length    int64
	version   message.Version
	keepAlive bool // the connection may carry another message after this one
	expect    bool // Expect: 100-continue
}

// collected is what the field lines say about framing and routing, gathered while they become header.Fields.
type collected struct {
	connection
	hosts, lengths, codings, upgrades int
	host, length, coding, upgrade     string
	said                              string // the values of Connection
	connections, te                   bool
}

// collect puts the lines of text into f, without those that are about the connection. It refuses repetitions whose meaning
// depends on the reader.
func (c *collected) collect(text string, lines []line, f *header.Fields) error {
	for _, l := range lines {
		name, value := text[l.name:l.nameEnd], text[l.value:l.valueEnd]
		switch id := header.Lookup(name); id {
		case header.Host:
			c.hosts++
			c.host = value
		case header.ContentLength:
			c.lengths++
			c.length = value
			f.AppendID(id, value)
		case header.TransferEncoding:
			c.codings++
			c.coding = value
		case header.Connection:
			if c.connections = true; c.said != "" {
				c.said += ","
			}
			c.said += value
		case header.ProxyConnection:
			c.connections = true
		case header.KeepAlive:
		case header.Upgrade:
			c.upgrades++
			c.upgrade = value
		case header.TE:
			c.te = c.te || token(value, "trailers")
		case header.Other:
			f.Append(name, value)
		default:
			f.AppendID(id, value)
		}
	}
	if c.te {
		f.AppendID(header.TE, "trailers")
	}
	if c.connections {
		for _, l := range lines {
			name, value := text[l.name:l.nameEnd], text[l.value:l.valueEnd]
			if name == "proxy-connection" && token(value, "close") {
				c.connection.close = true // not a standard field: it nominates nothing (Envoy the same)
			}
			if name != "connection" {
				continue
			}
			if err := c.read(value, f); err != nil {
				return err
			}
		}
	}
	if !c.connection.upgrade {
		c.upgrade, c.upgrades = "", 0 // Upgrade is for this connection only, and must be named (RFC 9110, 7.8)
	}
	if c.upgrades > 1 {
		return bad("several Upgrade fields")
	}
	return nil
}

// frame decides how the body ends, as far as requests and responses agree.
func (c *collected) frame(v message.Version) (kind bodyKind, length int64, err error) {
	switch {
	case c.codings > 0 && c.lengths > 0:
		return 0, 0, malformed(statusBadRequest, detailLengthAndChunked, "both Transfer-Encoding and Content-Length")
	case c.codings > 0 && v == message.HTTP10:
		return 0, 0, malformed(statusBadRequest, detailTransferEncoding, "Transfer-Encoding in HTTP/1.0")
	case c.codings > 1 || c.codings == 1 && !strings.EqualFold(c.coding, "chunked"):
		return 0, 0, malformed(statusNotImplemented, detailTransferEncoding, "a transfer coding other than chunked alone")
	case c.codings == 1:
		return chunked, 0, nil
	case c.lengths > 1:
		return 0, 0, bad("Content-Length repeated") // equal values, too: Envoy
	case c.lengths == 1:
		n, ok := parseLength(c.length)
		if !ok {
			return 0, 0, bad("Content-Length is not one decimal number")
		}
		return fixed, n, nil
	}
	return noBody, 0, nil
}

// parseLength reads a Content-Length: digits only, below 2^63.
func parseLength(s string) (int64, bool) {
	if s == "" || len(s) > 19 {
		return 0, false
	}
	n := uint64(0)
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + uint64(s[i]-'0')
	}
	return int64(n), n < 1<<63
}
