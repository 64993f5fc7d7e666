package message

import (
	"errors"
	"fmt"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
)

// Version is the protocol that a message travelled in.
type Version uint8

// The versions, as Envoy's %PROTOCOL% prints them.
const (
	HTTP10 Version = iota
	HTTP11
	HTTP2
)

func (v Version) String() string {
	switch v {
	case HTTP10:
		return "HTTP/1.0"
	case HTTP2:
		return "HTTP/2"
	default:
		return "HTTP/1.1"
	}
}

// Head is the head of a request (Method is set) or of a response (Status is set). What HTTP/2 sends as pseudo-headers, and
// HTTP/1.1 in its first line and in Host, stands in fields of its own and not in Fields.
type Head struct {
	Method    string
	Scheme    string // "http" or "https"; HTTP/1.1: of an absolute-form target, else ""
	Authority string // Host or :authority, as sent (port included, case kept)
	Path      string // with the query; "*" for OPTIONS *; "" only for CONNECT
	Upgrade   string // the protocol that Upgrade or :protocol asks for; in a 101 response, the one granted; else ""
	Status    int

	// Connection is that header of an HTTP/1.1 request with Upgrade, for whoever looks at it; else "".
	Connection string

	Fields header.Fields
}

// Reset empties h and keeps its memory for the next message.
func (h *Head) Reset() {
	fields := h.Fields
	fields.Reset()
	*h = Head{Fields: fields}
}

// CopyFrom makes h a copy of src that shares only the strings.
func (h *Head) CopyFrom(src *Head) {
	fields := h.Fields
	fields.CopyFrom(&src.Fields)
	*h = *src
	h.Fields = fields
}

// Nth returns value i (from 0) of a field or of a pseudo-header (":method", ":path", ":authority", ":scheme", ":status" is
// not among them). "host" is an alias of ":authority", as in Envoy. Where another protocol is asked for there are also "upgrade",
// with its name, and over HTTP/1.1 "connection", so that a policy or a route can tell a WebSocket; Envoy keeps both headers then, and
// drops them from all other requests.
func (h *Head) Nth(name string, i int) (string, bool) {
	v := ""
	switch name {
	case ":method":
		v = h.Method
	case ":path":
		v = h.Path
	case ":authority", "host":
		v = h.Authority
	case ":scheme":
		v = h.Scheme
	case ":protocol", "upgrade":
		v = h.Upgrade
	case "connection":
		v = h.Connection
	default:
		return h.Fields.Nth(name, i)
	}
	return v, v != "" && i == 0
}

// Get returns the first value of a field or pseudo-header; see [Head.Nth].
func (h *Head) Get(name string) (string, bool) { return h.Nth(name, 0) }

// Informational tells whether a response head is a 1xx other than 101: another head follows.
func (h *Head) Informational() bool {
	return h.Status >= 100 && h.Status < 200 && h.Status != 101
}

// Stream is one exchange with one peer; see the package documentation for who reads and writes what.
type Stream interface {
	// ReadHead waits for the next head and fills h, which it resets first. end: neither body nor trailers follow.
	// Errors: io.EOF (the peer left before a first byte: no exchange took place), *Malformed, *ResetError.
	ReadHead(h *Head) (end bool, err error)

	// Read takes body bytes; io.EOF at the end, after which Trailer is set. Taking bytes is what gives the sender credit.
	Read(p []byte) (int, error)

	// Buffered tells what Read would give without waiting, and whether the body's end is among it.
	Buffered() (n int, complete bool)

	// Trailer returns the trailers after Read returned io.EOF; nil if there were none.
	Trailer() *header.Fields

	// WriteHead sends a head; end: no body follows. The head may wait in a buffer for the first Write, Flush or CloseWrite.
	WriteHead(h *Head, end bool) error

	// Write sends body bytes; it blocks while the peer or the connection takes no more. p may be reused afterwards.
	Write(p []byte) (int, error)

	// Flush sends what waits in a buffer.
	Flush() error

	// CloseWrite ends the body, with trailers if trailer is not nil, and flushes.
	CloseWrite(trailer *header.Fields) error

	// Reset gives the exchange up in both directions. What comes after fails with *ResetError. Idempotent.
	Reset(code ResetCode)

	// OnReset names the function that is called, once, when the peer or the connection gives the exchange up while it is
	// not complete. It runs on the connection's reader and must not block. nil takes it back, and waits if it is running, so
	// that what it uses can serve another exchange; f itself must not do that. If the exchange has been given up already, f
	// is called at once.
	OnReset(f func(*ResetError))

	// Version is the protocol spoken on this side.
	Version() Version
}

// ResetCode says why an exchange is given up: an HTTP/2 error code (RFC 9113, 7). HTTP/1.1 has no codes: there a reset closes
// the connection.
type ResetCode uint32

// The codes of RFC 9113, 7.
const (
	NoError            ResetCode = 0x0
	ProtocolError      ResetCode = 0x1
	InternalError      ResetCode = 0x2
	FlowControlError   ResetCode = 0x3
	SettingsTimeout    ResetCode = 0x4
	StreamClosed       ResetCode = 0x5
	FrameSizeError     ResetCode = 0x6
	RefusedStream      ResetCode = 0x7
	Cancel             ResetCode = 0x8
	CompressionError   ResetCode = 0x9
	ConnectError       ResetCode = 0xa
	EnhanceYourCalm    ResetCode = 0xb
	InadequateSecurity ResetCode = 0xc
	HTTP11Required     ResetCode = 0xd
)

// ResetError is an exchange that ended before it was complete.
type ResetError struct {
	Code ResetCode
	// Remote: the peer reset it (HTTP/2 RST_STREAM). Not Remote and not Lost: this side did.
	Remote bool
	// Lost: the connection under it ended or broke.
	Lost bool
	// Cause is the transport's error, if there was one.
	Cause error
}

func (e *ResetError) Error() string {
	who := "reset by this side"
	switch {
	case e.Lost:
		who = "connection lost"
	case e.Remote:
		who = "reset by the peer"
	}
	if e.Cause != nil {
		return fmt.Sprintf("%s (code %d): %v", who, e.Code, e.Cause)
	}
	return fmt.Sprintf("%s (code %d)", who, e.Code)
}

func (e *ResetError) Unwrap() error { return e.Cause }

// Refused tells whether the peer did not look at the request at all (REFUSED_STREAM, or a stream above the last one of a
// GOAWAY): it may be sent again whatever its method (RFC 9113, 8.7).
func (e *ResetError) Refused() bool { return e.Code == RefusedStream && (e.Remote || e.Lost) }

// Malformed is a message that breaks its protocol's rules. Status is the answer that a server gives to such a request;
// Details is Envoy's response code detail; Reason is for people.
type Malformed struct {
	Status  int
	Details string
	Reason  string
}

func (e *Malformed) Error() string { return "malformed message: " + e.Reason }

// AsMalformed returns the *Malformed in err's chain, or nil.
func AsMalformed(err error) *Malformed {
	var m *Malformed
	if errors.As(err, &m) {
		return m
	}
	return nil
}
