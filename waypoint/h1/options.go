package h1

import "time"

// Options are what the config says about HTTP/1.1 on a connection. The zero value is Envoy's default everywhere.
type Options struct {
	// Prefix is what was read from the connection already (by the protocol sniffer). It is copied.
	Prefix []byte

	// AcceptHTTP10 lets HTTP/1.0 requests in (accept_http_10; istiod's PILOT_HTTP10). Else they get 426, as from Envoy.
	// The connection is closed after each.
	AcceptHTTP10 bool

	// EnableTrailers passes trailers in both directions (enable_trailers). Else they are checked and dropped, as by Envoy.
	EnableTrailers bool

	// Underscores says what becomes of requests with field names that contain an underscore
	// (headers_with_underscores_action).
	Underscores Underscores

	// MaxHeadBytes bounds a head: target, names and values together (max_request_headers_kb). 0: 60 KiB, Envoy's default.
	// The same number bounds responses and trailers; Envoy lets a 70 KiB line of a response pass.
	MaxHeadBytes int

	// MaxFields bounds the lines of a head (max_headers_count). 0: 100, Envoy's default; the 101st is refused.
	MaxFields int
}

// Underscores is envoy.config.core.v3.HttpProtocolOptions.HeadersWithUnderscoresAction.
type Underscores uint8

// What becomes of a request field with an underscore in its name.
const (
	AllowUnderscores Underscores = iota
	RejectUnderscores
	DropUnderscores
)

const (
	defaultMaxHeadBytes = 60 << 10
	defaultMaxFields    = 100

	// lineOverhead is what a line may add to its name and value (colon, spaces, CRLF) before the head as a whole is too
	// long: Envoy's limit does not count it, but a buffer must end somewhere.
	lineOverhead = 40

	// maxChunkLine bounds one chunk-size line with its extensions: nobody uses extensions, and they are dropped.
	maxChunkLine = 1 << 10

	// maxChunkOverhead bounds what all the chunk-size lines of a body may cost beyond twice the data plus 16 bytes each, so
	// that a body of one-byte chunks with long extensions does not cost a thousand times its size (CVE-2023-39326).
	maxChunkOverhead = 16 << 10

	// drainLimit is how much of an unread request body is read away to keep the connection: about what a client has
	// in flight anyway when the answer reaches it. Beyond that a new connection is cheaper than the bytes.
	drainLimit = 64 << 10

	// drainTime is how long that may take: Envoy's delayed_close_timeout default.
	drainTime = time.Second
)

// limits are Options with the defaults put in.
type limits struct {
	head, raw, fields int
	http10, trailers  bool
	underscores       Underscores
}

func (o *Options) limits() limits {
	l := limits{head: o.MaxHeadBytes, fields: o.MaxFields, http10: o.AcceptHTTP10, trailers: o.EnableTrailers,
		underscores: o.Underscores}
	if l.head <= 0 {
		l.head = defaultMaxHeadBytes
	}
	if l.fields <= 0 {
		l.fields = defaultMaxFields
	}
	l.raw = l.head + (l.fields+1)*lineOverhead
	return l
}
