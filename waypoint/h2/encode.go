package h2

import (
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// encoderTableSize is how much HPACK state we keep for a peer that allows more: 4096 bytes, the default of RFC 7541.
const encoderTableSize = 4096

// headEncoder turns heads into header blocks. It belongs to output.mu, since the order of its calls must be the order of the
// frames.
type headEncoder struct {
	hpack *hpack.Encoder
}

func (e *headEncoder) init(o *output) { e.hpack = hpack.NewEncoder(o) }

func (e *headEncoder) setTableSize(n uint32) {
	e.hpack.SetMaxDynamicTableSize(min(n, encoderTableSize))
}

// field writes one field. Its error is that of output.Write, which has none.
func (e *headEncoder) field(name, value string, neverIndex bool) {
	_ = e.hpack.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: neverIndex})
}

func (e *headEncoder) request(h *message.Head) {
	switch {
	case h.Upgrade != "": // extended CONNECT (RFC 8441, 4)
		e.field(":method", "CONNECT", false)
		e.field(":protocol", h.Upgrade, false)
		e.target(h)
	case h.Method == "CONNECT": // RFC 9113, 8.5: nothing else
		e.field(":method", h.Method, false)
		e.field(":authority", h.Authority, false)
	default:
		e.field(":method", h.Method, false)
		e.target(h)
	}
	e.fields(&h.Fields, false)
}

func (e *headEncoder) target(h *message.Head) {
	scheme := h.Scheme
	if scheme == "" {
		scheme = "http"
	}
	e.field(":scheme", scheme, false)
	// A path with a query is rarely sent twice; in the table it would only push out what is.
	e.field(":path", h.Path, strings.IndexByte(h.Path, '?') >= 0)
	if h.Authority != "" {
		e.field(":authority", h.Authority, false)
	}
}

// response writes a response head; tunnel: it answers CONNECT, so that a 2xx has no content (RFC 9110, 9.3.6), and ztunnel
// breaks off if it claims a length.
func (e *headEncoder) response(h *message.Head, tunnel bool) {
	e.field(":status", statusText(h.Status), false)
	e.fields(&h.Fields, tunnel && h.Status/100 == 2)
}

func (e *headEncoder) fields(f *header.Fields, noLength bool) {
	list := f.All()
	for i := range list {
		l := &list[i]
		switch l.ID {
		case header.Connection, header.KeepAlive, header.ProxyConnection, header.TransferEncoding, header.Upgrade, header.Host:
			continue // framing of HTTP/1.1, and what :authority says
		case header.TE:
			if l.Value != "trailers" {
				continue // RFC 9113, 8.2.2
			}
		case header.ContentLength:
			if noLength {
				continue
			}
		}
		if strings.HasPrefix(l.Name, ":") {
			continue // would be read as a pseudo-header
		}
		e.field(l.Name, l.Value, neverIndexed(l))
	}
}

// neverIndexed tells which fields stay out of the compression state: secrets, since an attacker who can add fields of his own
// could guess them by the size of the frames (RFC 7541, 7.1.3), and values that are new in every message.
func neverIndexed(f *header.Field) bool {
	switch f.ID {
	case header.Authorization, header.Cookie:
		return true
	case header.XRequestID, header.XClientTraceID, header.Traceparent, header.B3, header.XB3TraceID, header.XB3SpanID,
		header.XB3ParentSpanID, header.ContentLength, header.XEnvoyUpstreamServiceTime:
		return true
	case header.Other:
		switch f.Name {
		case "set-cookie", "proxy-authorization", "x-api-key", "etag", "if-none-match":
			return true
		}
	}
	return false
}

var statusTexts = func() string {
	var b strings.Builder
	for i := 100; i < 1000; i++ {
		b.Write([]byte{byte('0' + i/100), byte('0' + i/10%10), byte('0' + i%10)})
	}
	return b.String()
}()

// statusText is strconv.Itoa for three digits, without an allocation.
func statusText(status int) string {
	if status < 100 || status > 999 {
		status = 500
	}
	i := (status - 100) * 3
	return statusTexts[i : i+3]
}
