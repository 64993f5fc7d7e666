package h1

import (
	"bytes"
	"strings"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// asked is what the request says about how its response is framed.
type asked struct {
	head, connect bool
	upgrade       string
}

// parseResponse reads a whole response head, b, into h; as parseRequest.
func parseResponse(b []byte, buf *buffer, h *message.Head, l *limits, q asked) (framing, error) {
	var fr framing
	status, version, err := statusLine(b)
	if err != nil {
		return fr, err
	}
	h.Status, fr.version = status, version

	start := bytes.IndexByte(b, '\n') + 1
	buf.lines, err = parseLines(b, start, buf.lines[:0], 0, l)
	if err != nil {
		return fr, err
	}
	text := string(b)
	var c collected
	if err = c.collect(text, buf.lines, &h.Fields); err != nil {
		return fr, err
	}
	if c.hosts > 0 {
		h.Fields.AppendID(header.Host, c.host) // means nothing in a response, and harms nothing
	}
	if fr.kind, fr.length, err = c.frame(version); err != nil {
		return fr, err
	}
	if version == message.HTTP11 {
		fr.keepAlive = !c.connection.close
	} else {
		fr.keepAlive = c.connection.keepAlive && !c.connection.close
	}
	return fr, c.frameResponse(h, &fr, q)
}

// statusLine checks the first line of b: version SP status [SP reason] CRLF. Envoy takes other versions and any number.
func statusLine(b []byte) (status int, v message.Version, err error) {
	eol := bytes.IndexByte(b, '\n')
	if eol < 1 || b[eol-1] != '\r' {
		return 0, 0, bad("the status line ends with LF alone")
	}
	t := b[:eol-1]
	switch {
	case bytes.HasPrefix(t, []byte("HTTP/1.1 ")):
		v = message.HTTP11
	case bytes.HasPrefix(t, []byte("HTTP/1.0 ")):
		v = message.HTTP10
	default:
		return 0, 0, bad("the status line does not begin with HTTP/1.1 or HTTP/1.0")
	}
	t = t[len("HTTP/1.1 "):]
	if len(t) < 3 || !digit(t[0]) || !digit(t[1]) || !digit(t[2]) || len(t) > 3 && t[3] != ' ' {
		return 0, 0, bad("the status is not three digits")
	}
	status = int(t[0]-'0')*100 + int(t[1]-'0')*10 + int(t[2]-'0')
	if status < 100 || status > 599 {
		return 0, 0, bad("the status is not between 100 and 599")
	}
	if !validValue(t[3:]) {
		return 0, 0, malformed(statusBadRequest, detailInvalidCharacters, "a control character in the reason phrase")
	}
	return status, v, nil
}

// frameResponse applies what the request and the status say about the body (RFC 9112, 6.3, rules 1, 2 and 8).
func (c *collected) frameResponse(h *message.Head, fr *framing, q asked) error {
	s := h.Status
	switch {
	case s == statusSwitchingProtocols:
		if q.upgrade == "" || c.upgrade == "" || !token(q.upgrade, c.upgrade) {
			return bad("101 for a protocol that was not asked for")
		}
		if fr.kind == chunked || fr.length > 0 {
			return malformed(statusBadRequest, detailTENotAllowed, "a body on 101")
		}
		h.Upgrade = c.upgrade
		h.Fields.Del(header.ContentLength)
		fr.kind, fr.length, fr.keepAlive = raw, 0, false
	case q.connect && s >= 200 && s < 300:
		if fr.kind == chunked {
			return malformed(statusBadRequest, detailTransferEncoding, "Transfer-Encoding in an answer to CONNECT")
		}
		h.Fields.Del(header.ContentLength) // without meaning here (RFC 9110, 9.3.6)
		fr.kind, fr.length, fr.keepAlive = raw, 0, false
	case s < 200 || s == 204:
		// Envoy's strict_1xx_and_204_response_headers: a zero length is harmless, anything else is another message's body.
		if fr.kind == chunked {
			return malformed(statusBadRequest, detailTENotAllowed, "Transfer-Encoding in a 1xx or 204")
		}
		if fr.length > 0 {
			return malformed(statusBadRequest, detailLengthNotAllowed, "Content-Length in a 1xx or 204")
		}
		h.Fields.Del(header.ContentLength)
		fr.kind, fr.length = noBody, 0
	case q.head || s == 304:
		fr.kind, fr.length = noBody, 0
	case fr.kind == noBody:
		fr.kind, fr.keepAlive = untilEOF, false
	}
	if q.connect || q.upgrade != "" {
		fr.keepAlive = fr.keepAlive && s < 200 // refused: what the peer makes of bytes already sent is not known
	}
	return nil
}

// reason is the phrase that is written for a status, as Envoy writes it; an upstream's phrase is not kept.
func reason(status int) string {
	if i := status - 100; i >= 0 && i < len(reasons) && reasons[i] != "" {
		return reasons[i]
	}
	return "Unknown"
}

var reasons = func() (t [500]string) {
	for _, row := range strings.Split(phrases, "\n") {
		code, phrase, _ := strings.Cut(row, " ")
		if n, ok := parseLength(code); ok {
			t[n-100] = phrase
		}
	}
	return t
}()

const phrases = `100 Continue
101 Switching Protocols
102 Processing
103 Early Hints
200 OK
201 Created
202 Accepted
203 Non-Authoritative Information
204 No Content
205 Reset Content
206 Partial Content
207 Multi-Status
208 Already Reported
226 IM Used
300 Multiple Choices
301 Moved Permanently
302 Found
303 See Other
304 Not Modified
305 Use Proxy
307 Temporary Redirect
308 Permanent Redirect
400 Bad Request
401 Unauthorized
402 Payment Required
403 Forbidden
404 Not Found
405 Method Not Allowed
406 Not Acceptable
407 Proxy Authentication Required
408 Request Timeout
409 Conflict
410 Gone
411 Length Required
412 Precondition Failed
413 Payload Too Large
414 URI Too Long
415 Unsupported Media Type
416 Range Not Satisfiable
417 Expectation Failed
421 Misdirected Request
422 Unprocessable Entity
423 Locked
424 Failed Dependency
425 Too Early
426 Upgrade Required
428 Precondition Required
429 Too Many Requests
431 Request Header Fields Too Large
500 Internal Server Error
501 Not Implemented
502 Bad Gateway
503 Service Unavailable
504 Gateway Timeout
505 HTTP Version Not Supported
506 Variant Also Negotiates
507 Insufficient Storage
508 Loop Detected
510 Not Extended
511 Network Authentication Required`
