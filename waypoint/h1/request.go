package h1

import (
	"bytes"
	"net/netip"
	"strings"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// parseRequest reads a whole request head, b, into h. It lower-cases the names in b, makes one string of b, and fills h
// with its parts. On an error h has the method, if that much was legible: the answer to HEAD has no body.
func parseRequest(b []byte, buf *buffer, h *message.Head, l *limits) (framing, error) {
	var fr framing
	method, target, version, err := requestLine(b)
	h.Method = method
	if err != nil {
		return fr, err
	}
	if version == message.HTTP10 && !l.http10 {
		return fr, malformed(statusUpgradeRequired, detailLowVersion, "HTTP/1.0")
	}
	fr.version = version

	start := bytes.IndexByte(b, '\n') + 1
	buf.lines, err = parseLines(b, start, buf.lines[:0], target[1]-target[0], l)
	if err != nil {
		return fr, err
	}
	text := string(b)
	var c collected
	if err = c.collect(text, buf.lines, &h.Fields); err != nil {
		return fr, err
	}
	if err = parseTarget(text[target[0]:target[1]], h); err != nil {
		return fr, err
	}
	if err = c.takeHost(h); err != nil {
		return fr, err
	}
	if fr.kind, fr.length, err = c.frame(version); err != nil {
		return fr, err
	}
	fr.keepAlive = version == message.HTTP11 && !c.connection.close
	fr.expect = h.Fields.Has(header.Expect) && strings.EqualFold(h.Fields.Value(header.Expect), "100-continue")
	return fr, c.takeUpgrade(h, &fr)
}

// requestLine splits and checks the first line of b, which has all of it: method SP target SP version CRLF, with exactly one
// space between (Envoy takes tabs and several spaces). target is where the target stands in b.
func requestLine(b []byte) (method string, target [2]int, v message.Version, err error) {
	eol := bytes.IndexByte(b, '\n')
	if eol < 1 || b[eol-1] != '\r' {
		return "", target, 0, bad("the request line ends with LF alone")
	}
	text := b[:eol-1]
	sp := bytes.IndexByte(text, ' ')
	if sp < 0 {
		return "", target, 0, bad("no target in the request line")
	}
	if method = knownMethod(text[:sp]); method == "" {
		return "", target, 0, bad("unknown method")
	}
	rest := text[sp+1:]
	sp2 := bytes.IndexByte(rest, ' ')
	if sp2 < 0 {
		if !visible(rest) {
			return method, target, 0, malformed(statusBadRequest, detailInvalidURL, "an illegal character in the target")
		}
		return method, target, 0, malformed(statusUpgradeRequired, detailLowVersion, "HTTP/0.9")
	}
	if !visible(rest[:sp2]) {
		return method, target, 0, malformed(statusBadRequest, detailInvalidURL, "an illegal character in the target")
	}
	target = [2]int{sp + 1, sp + 1 + sp2}
	switch version := rest[sp2+1:]; {
	case string(version) == "HTTP/1.1":
		return method, target, message.HTTP11, nil
	case string(version) == "HTTP/1.0":
		return method, target, message.HTTP10, nil
	case len(version) == len("HTTP/1.1") && string(version[:5]) == "HTTP/" && digit(version[5]) && version[6] == '.' && digit(version[7]):
		return method, target, 0, malformed(statusUpgradeRequired, detailLowVersion, "a version other than HTTP/1.1")
	default:
		return method, target, 0, bad("the request line does not end in a version")
	}
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// knownMethod returns the method as a constant, or "". The list is Envoy's for HTTP/1.1 (it refuses others while
// allow_custom_methods is unset, which istiod never sets), so that a policy's list of methods means the same.
func knownMethod(b []byte) string {
	switch string(b) {
	case "GET":
		return "GET"
	case "POST":
		return "POST"
	}
	for _, m := range methods {
		if string(b) == m {
			return m
		}
	}
	return ""
}

var methods = [...]string{
	"HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE",
	"ACL", "BIND", "CHECKOUT", "COPY", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "M-SEARCH",
	"NOTIFY", "PROPFIND", "PROPPATCH", "PURGE", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE", "UNBIND", "UNLINK",
	"UNLOCK", "UNSUBSCRIBE",
}

// parseTarget reads the request target (RFC 9112, 3.2) into Scheme, Authority and Path. Its characters are checked already.
func parseTarget(t string, h *message.Head) error {
	switch {
	case h.Method == "CONNECT":
		if !ValidAuthority(t) || !hasPort(t) {
			return malformed(statusBadRequest, detailInvalidURL, "the target of CONNECT is not host:port")
		}
		h.Authority = t
		return nil
	case t[0] == '/':
		h.Path = t
		return nil
	case t == "*" && h.Method == "OPTIONS":
		h.Path = t
		return nil
	}
	scheme, rest, ok := strings.Cut(t, "://")
	switch {
	case !ok:
		return malformed(statusBadRequest, detailInvalidURL, "the target is neither a path nor an absolute URI")
	case strings.EqualFold(scheme, "http"):
		h.Scheme = "http"
	case strings.EqualFold(scheme, "https"):
		h.Scheme = "https"
	default:
		return malformed(statusBadRequest, detailInvalidScheme, "the target's scheme is neither http nor https")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	h.Authority, h.Path = rest[:end], rest[end:]
	if !ValidAuthority(h.Authority) {
		return malformed(statusBadRequest, detailInvalidAuthority, "the target's authority is not host[:port]")
	}
	if h.Path == "" {
		h.Path = "/"
	} else if h.Path[0] != '/' {
		h.Path = "/" + h.Path
	}
	return nil
}

// takeHost requires exactly one Host (RFC 9112, 3.2: also beside an absolute-form target) and makes it the authority unless
// the target has one: then Host is ignored even if it differs, and what is sent on is the target's authority in Host
// (RFC 9112, 3.2.2; Envoy the same). Envoy joins several Hosts with a comma, and takes an empty one.
func (c *collected) takeHost(h *message.Head) error {
	switch {
	case c.hosts == 0:
		return malformed(statusBadRequest, detailMissingHost, "no Host")
	case c.hosts > 1:
		return malformed(statusBadRequest, detailInvalidAuthority, "several Host fields")
	case c.host == "" && h.Authority != "":
		return nil
	case !ValidAuthority(c.host):
		return malformed(statusBadRequest, detailInvalidAuthority, "Host is not host[:port]")
	}
	if h.Authority == "" {
		h.Authority = c.host
	}
	return nil
}

// ValidAuthority tells whether a is host or host:port, without user information. The host is a name, an IPv4 address or
// an IPv6 address in brackets; the port is decimal, 0 to 65535.
func ValidAuthority(a string) bool {
	host, port := a, ""
	if strings.HasPrefix(a, "[") {
		end := strings.IndexByte(a, ']')
		if end < 0 {
			return false
		}
		ip, err := netip.ParseAddr(a[1:end])
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return false
		}
		if port = a[end+1:]; port == "" {
			return true
		}
		return port[0] == ':' && validPort(port[1:])
	}
	if i := strings.IndexByte(a, ':'); i >= 0 {
		host, port = a[:i], a[i+1:]
		if !validPort(port) {
			return false
		}
	}
	for i := 0; i < len(host); i++ {
		if !inHost[host[i]] {
			return false
		}
	}
	return host != ""
}

func validPort(p string) bool {
	n, ok := parseLength(p)
	return ok && len(p) <= 5 && n <= 65535
}

func hasPort(a string) bool { return strings.LastIndexByte(a, ':') > strings.LastIndexByte(a, ']') }

// takeUpgrade sets what the head says about a change of protocol.
func (c *collected) takeUpgrade(h *message.Head, fr *framing) error {
	connect := h.Method == "CONNECT"
	switch {
	case strings.EqualFold(c.upgrade, "h2c"):
		// HTTP/2 by upgrade is gone from RFC 9113: the request is served as the HTTP/1.1 that it is (Envoy the same).
		h.Fields.DelName("http2-settings")
	case connect && fr.kind == chunked:
		return malformed(statusNotImplemented, detailTransferEncoding, "CONNECT with a body")
	case (connect || c.upgrade != "") && (fr.kind == chunked || fr.length > 0):
		// Envoy takes everything after the head of an upgrade as the new protocol's; a server would take the body first.
		return malformed(statusBadRequest, detailBodyDisallowed, "a body on a request for another protocol")
	case connect:
		h.Fields.Del(header.ContentLength) // it was 0
		fr.kind, fr.length = noBody, 0
	case c.upgrade != "":
		h.Upgrade, h.Connection = c.upgrade, c.said
	}
	return nil
}
