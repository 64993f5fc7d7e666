package h2

import (
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

type blockKind uint8

const (
	blockDiscard  blockKind = iota // decoded only to keep the HPACK state
	blockRequest                   // opens a stream
	blockResponse                  // informational or final
	blockTrailer
)

// block is the header block that the reader is in the middle of: HEADERS and perhaps CONTINUATION. Fields are checked as the
// decoder emits them (RFC 9113, 8.2 and 8.3).
type block struct {
	open          bool // END_HEADERS has not come
	kind          blockKind
	id            uint32
	end           bool // END_STREAM
	stream        *Stream
	continuations int
	after         afterBlock

	head *message.Head // where the fields go; nil: discarded

	maxSize, maxFields int
	size, count        int
	tooLarge           bool
	bad                string // what is malformed; "" if nothing is

	connectProtocol bool // extended CONNECT may be used
	regular         bool // a regular field came
	seen            pseudo
	contentLength   int64 // -1: none
	crumbs          []string
	cookieAt        int
}

// afterBlock is what a block that is discarded leads to.
type afterBlock struct {
	code  message.ResetCode
	reset bool
}

type pseudo uint8

const (
	pseudoMethod pseudo = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
	pseudoStatus
)

// begin makes b ready for the fields of the next block.
func (b *block) begin(kind blockKind, head *message.Head) {
	b.kind, b.head = kind, head
	b.size, b.count, b.tooLarge, b.bad = 0, 0, false, ""
	b.regular, b.seen, b.contentLength = false, 0, -1
	clear(b.crumbs)
	b.crumbs = b.crumbs[:0]
	b.cookieAt = -1
}

func (b *block) fail(reason string) {
	if b.bad == "" {
		b.bad = reason
	}
}

// emit takes one field from the decoder. It returns false when no more fields are wanted.
func (b *block) emit(f hpack.HeaderField) bool {
	b.size += len(f.Name) + len(f.Value) + 32
	b.count++
	if b.size > b.maxSize || b.count > b.maxFields {
		b.tooLarge = true
		return false
	}
	if b.head == nil || b.bad != "" {
		return true
	}
	if strings.HasPrefix(f.Name, ":") {
		b.pseudo(f.Name, f.Value)
		return true
	}
	b.regular = true
	if !validName(f.Name) {
		b.fail("a field name is empty, not lower-case or has a character that names do not have")
		return true
	}
	value := strings.Trim(f.Value, " \t")
	if !validValue(value) {
		b.fail("the value of field " + f.Name + " has a control character")
		return true
	}
	id := header.Lookup(f.Name)
	switch id {
	case header.Connection, header.KeepAlive, header.ProxyConnection, header.TransferEncoding, header.Upgrade:
		b.fail("field " + f.Name + " belongs to HTTP/1.1 connections")
		return true
	case header.TE:
		if !strings.EqualFold(value, "trailers") {
			b.fail("field te says something other than trailers")
			return true
		}
	case header.ContentLength:
		n, ok := parseLength(value)
		if !ok || b.contentLength >= 0 {
			b.fail("content-length is no number, or there are two")
			return true
		}
		b.contentLength = n
	case header.Cookie:
		if b.kind == blockRequest {
			b.crumbs = append(b.crumbs, value)
			if b.cookieAt >= 0 {
				return true
			}
			b.cookieAt = b.head.Fields.Len()
		}
	}
	if id != header.Other {
		b.head.Fields.AppendID(id, value)
	} else {
		b.head.Fields.Append(f.Name, value)
	}
	return true
}

func (b *block) pseudo(name, value string) {
	var which pseudo
	var dst *string
	switch name {
	case ":method":
		which, dst = pseudoMethod, &b.head.Method
	case ":scheme":
		which, dst = pseudoScheme, &b.head.Scheme
	case ":authority":
		which, dst = pseudoAuthority, &b.head.Authority
	case ":path":
		which, dst = pseudoPath, &b.head.Path
	case ":protocol":
		which, dst = pseudoProtocol, &b.head.Upgrade
	case ":status":
		which = pseudoStatus
	default:
		b.fail("unknown pseudo-header")
		return
	}
	switch {
	case b.kind == blockTrailer:
		b.fail("pseudo-header " + name + " in trailers")
	case (which == pseudoStatus) != (b.kind == blockResponse):
		b.fail("pseudo-header " + name + " in the wrong kind of message")
	case b.regular:
		b.fail("pseudo-header " + name + " after a regular field")
	case b.seen&which != 0:
		b.fail("pseudo-header " + name + " came twice")
	case which == pseudoProtocol && !b.connectProtocol:
		b.fail("extended CONNECT was not offered")
	case which == pseudoStatus:
		if len(value) != 3 || value[0] < '1' || value[0] > '9' || !isDigit(value[1]) || !isDigit(value[2]) {
			b.fail(":status is not three digits")
			return
		}
		b.head.Status = int(value[0]-'0')*100 + int(value[1]-'0')*10 + int(value[2]-'0')
	default:
		*dst = value
	}
	b.seen |= which
}

// finish makes the checks that need the whole block. What it finds is in b.bad and b.tooLarge.
func (b *block) finish() {
	if b.bad != "" || b.tooLarge || b.head == nil {
		return
	}
	switch b.kind {
	case blockRequest:
		b.finishRequest()
	case blockResponse:
		switch s := b.head.Status; {
		case b.seen&pseudoStatus == 0:
			b.fail(":status is missing")
		case s > 599:
			b.fail(":status is above 599")
		case s == 101:
			b.fail("HTTP/2 has no 101") // RFC 9113, 8.6
		case s < 200 && b.end:
			b.fail("an informational response ends the stream")
		}
	}
	if len(b.crumbs) > 1 && b.bad == "" {
		b.head.Fields.At(b.cookieAt).Value = strings.Join(b.crumbs, "; ")
	}
}

func (b *block) finishRequest() {
	h := b.head
	if !validToken(h.Method) {
		b.fail(":method is missing or is no token")
		return
	}
	if !b.hostAsAuthority() {
		return
	}
	if h.Authority != "" && !validAuthority(h.Authority) || h.Authority == "" && b.seen&pseudoAuthority != 0 {
		b.fail(":authority is not host and port")
		return
	}
	extended := b.seen&pseudoProtocol != 0
	switch {
	case extended && (h.Method != "CONNECT" || !validToken(h.Upgrade)):
		b.fail(":protocol without CONNECT, or it is no token")
	case h.Method == "CONNECT" && !extended:
		if b.seen&(pseudoScheme|pseudoPath) != 0 || h.Authority == "" {
			b.fail("CONNECT has :authority and neither :scheme nor :path") // RFC 9113, 8.5
		}
	case !validScheme(h.Scheme):
		b.fail(":scheme is missing or is none")
	case !validPath(h.Path, h.Method):
		b.fail(":path is missing, does not begin with a slash, or has a space or control character")
	case extended && h.Authority == "":
		b.fail("extended CONNECT without :authority")
	case extended:
		h.Method = "GET"
	}
}

// hostAsAuthority takes Host out of the fields: it must say the same as :authority (RFC 9113, 8.3.1).
func (b *block) hostAsAuthority() bool {
	switch b.head.Fields.Count(header.Host) {
	case 0:
		return true
	case 1:
		host := b.head.Fields.Value(header.Host)
		if b.head.Authority == "" && b.seen&pseudoAuthority == 0 && b.head.Method != "CONNECT" {
			b.head.Authority = host
		} else if !strings.EqualFold(host, b.head.Authority) {
			b.fail("host differs from :authority")
			return false
		}
		b.head.Fields.Del(header.Host)
		return true
	default:
		b.fail("host came twice")
		return false
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// nameChars are the characters of a token (RFC 9110, 5.6.2) without the upper-case letters.
var nameChars = func() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
		t[c] = true
	}
	return t
}()

func validName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !nameChars[s[i]] {
			return false
		}
	}
	return s != ""
}

func validToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !nameChars[s[i]] && (s[i] < 'A' || s[i] > 'Z') {
			return false
		}
	}
	return s != ""
}

func validValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// validAuthority admits the characters of host and port (RFC 3986, 3.2.2): no userinfo, no path, no space. Whether the port is
// one, and leads anywhere, is for whoever dispatches on it.
func validAuthority(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ' || c >= 0x7f:
			return false
		case c == '@' || c == '/' || c == '\\' || c == '?' || c == '#' || c == '"' || c == '<' || c == '>' || c == '^' ||
			c == '`' || c == '{' || c == '|' || c == '}':
			return false
		}
	}
	return true
}

func validScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (i == 0 || !isDigit(s[i]) && s[i] != '+' && s[i] != '-' && s[i] != '.') {
			return false
		}
	}
	return s != ""
}

func validPath(s, method string) bool {
	if s == "*" {
		return method == "OPTIONS"
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != "" && s[0] == '/'
}

func parseLength(s string) (n int64, ok bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}
