package tracing

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// Carrier is a block of request headers. Names are in lower case.
type Carrier interface {
	telemetry.Headers
	// Set replaces all values of a header.
	Set(name, value string)
	// Del removes a header.
	Del(name string)
}

// spanContext is a span's place in its trace.
type spanContext struct {
	traceHigh, traceLow uint64
	span, parent        uint64 // parent 0: a root
	sampled             bool
	shared              bool // the span is the caller's own (zipkin shared_span_context)
	state               string
}

func (c *spanContext) valid() bool { return c.traceHigh|c.traceLow != 0 && c.span != 0 }

// traceID is 16 or 32 hex digits.
func (c *spanContext) traceID() string {
	if c.traceHigh == 0 {
		return hex64(c.traceLow)
	}
	return hex64(c.traceHigh) + hex64(c.traceLow)
}

func hex64(v uint64) string {
	var b [16]byte
	const digits = "0123456789abcdef"
	for i := range b {
		b[i] = digits[v>>(60-4*i)&15]
	}
	return string(b[:])
}

func parseHex64(s string) (uint64, bool) {
	if len(s) != 16 || strings.ContainsAny(s, "+-_") {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 16, 64)
	return v, err == nil
}

// parseTraceID reads 16 or 32 hex digits.
func parseTraceID(s string) (high, low uint64, ok bool) {
	if len(s) == 32 {
		if high, ok = parseHex64(s[:16]); !ok {
			return 0, 0, false
		}
		s = s[16:]
	}
	low, ok = parseHex64(s)
	return high, low, ok
}

// incoming is what a caller said: a parent, and perhaps a decision. Either may be missing.
type incoming struct {
	parent  spanContext
	ok      bool // parent is set
	sampled *bool
}

var yes, no = true, false

func decision(s string) *bool {
	switch s {
	case "1", "true", "d":
		return &yes
	case "0", "false":
		return &no
	}
	return nil
}

// extractB3 reads the single header, else the multiple ones (B3 propagation, openzipkin/b3-propagation). Ids that make no
// sense count as absent, so that a new trace begins; Envoy would then not trace the request at all.
func extractB3(h telemetry.Headers) (in incoming) {
	get := func(name string) string { v, _ := h.Get(name); return v }
	if single := get("b3"); single != "" {
		p := strings.Split(single, "-")
		if len(p) == 1 {
			in.sampled = decision(p[0])
			return in
		}
		in.parent.traceHigh, in.parent.traceLow, in.ok = parseTraceID(p[0])
		span, ok := parseHex64(p[1])
		in.parent.span = span
		in.ok = in.ok && ok && in.parent.valid()
		if len(p) > 2 {
			in.sampled = decision(p[2])
		}
		if len(p) > 3 {
			in.parent.parent, _ = parseHex64(p[3])
		}
		return in
	}
	in.sampled = decision(get("x-b3-sampled"))
	if get("x-b3-flags") == "1" {
		in.sampled = &yes // debug
	}
	var spanOK bool
	in.parent.traceHigh, in.parent.traceLow, in.ok = parseTraceID(get("x-b3-traceid"))
	in.parent.span, spanOK = parseHex64(get("x-b3-spanid"))
	in.parent.parent, _ = parseHex64(get("x-b3-parentspanid"))
	in.ok = in.ok && spanOK && in.parent.valid()
	return in
}

// injectB3 writes the multiple headers. A single header of the caller's is removed: it names the caller's span, and who
// prefers it would not see ours. (Envoy leaves it.)
func injectB3(c Carrier, s *spanContext) {
	c.Set("x-b3-traceid", s.traceID())
	c.Set("x-b3-spanid", hex64(s.span))
	if s.parent != 0 {
		c.Set("x-b3-parentspanid", hex64(s.parent))
	} else {
		c.Del("x-b3-parentspanid")
	}
	if s.sampled {
		c.Set("x-b3-sampled", "1")
	} else {
		c.Set("x-b3-sampled", "0")
	}
	c.Del("b3")
}

// extractW3C reads traceparent and tracestate (W3C Trace Context, section 3.2). Anything malformed is absent.
func extractW3C(h telemetry.Headers) (in incoming) {
	s, _ := h.Get("traceparent")
	s = strings.TrimSpace(s)
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s != strings.ToLower(s) {
		return in
	}
	version := s[:2]
	if version == "ff" || version == "00" && len(s) != 55 || len(s) > 55 && s[55] != '-' {
		return in
	}
	flags, err := hex.DecodeString(s[:2] + s[53:55])
	if err != nil {
		return in
	}
	var ok1, ok2 bool
	in.parent.traceHigh, in.parent.traceLow, ok1 = parseTraceID(s[3:35])
	in.parent.span, ok2 = parseHex64(s[36:52])
	if !ok1 || !ok2 || !in.parent.valid() {
		return incoming{}
	}
	in.ok = true
	sampled := flags[1]&1 == 1
	in.sampled = &sampled
	in.parent.state, _ = h.Get("tracestate")
	return in
}

func injectW3C(c Carrier, s *spanContext) {
	flags := "00"
	if s.sampled {
		flags = "01"
	}
	c.Set("traceparent", "00-"+hex64(s.traceHigh)+hex64(s.traceLow)+"-"+hex64(s.span)+"-"+flags)
	if s.state != "" {
		c.Set("tracestate", s.state)
	}
}
