package format

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// header makes an operator for "NAME" or "NAME?ALTERNATIVE". A header that is there but empty prints as empty text, not as
// absent: that is what Envoy does.
func header(p part, get func(*record, string) (string, bool)) (operator, error) {
	names := strings.Split(strings.ToLower(p.arg), "?")
	if !p.hasArg || names[0] == "" {
		return nil, errors.New("needs the name of a header in parentheses")
	}
	if len(names) > 2 {
		return nil, fmt.Errorf("argument %q: only one alternative header is possible", p.arg)
	}
	if strings.ContainsAny(p.arg, "\r\n\x00") {
		return nil, errors.New("a header name has no line breaks")
	}
	name, alt := names[0], ""
	if len(names) == 2 {
		alt = names[1]
	}
	return func(dst []byte, r *record) ([]byte, kind) {
		v, ok := get(r, name)
		if !ok && alt != "" {
			v, ok = get(r, alt)
		}
		if !ok {
			return dst, absent
		}
		return append(dst, v...), text
	}, nil
}

func get(h telemetry.Headers, name string) (string, bool) {
	if h == nil {
		return "", false
	}
	return h.Get(name)
}

// requestHeader looks a request header up. The pseudo-headers come from the record, so that a log says the same as the
// metrics and the span.
func requestHeader(r *record, name string) (string, bool) {
	var v string
	switch name {
	case ":method":
		v = r.Method
	case ":path":
		v = r.Path
	case ":authority", "host":
		v = r.Authority
	case ":scheme":
		v = r.Scheme
	case "x-request-id":
		v = r.RequestID
	}
	if v != "" {
		return v, true
	}
	return get(r.RequestHeaders, name)
}

// codes are the status codes as text, so that %RESP(:STATUS)% does not allocate.
var codes = func() (t [600]string) {
	for i := range t {
		t[i] = strconv.Itoa(i)
	}
	return
}()

func responseHeader(r *record, name string) (string, bool) {
	if name == ":status" {
		if r.ResponseCode <= 0 || r.ResponseCode >= len(codes) {
			return "", false
		}
		return codes[r.ResponseCode], true
	}
	v, ok := get(r.ResponseHeaders, name)
	if !ok && name == "x-envoy-upstream-service-time" {
		// The proxy adds this header itself, perhaps only while it writes the head.
		if d, known := r.UpstreamServiceTime.Get(); known {
			return strconv.FormatInt(d.Milliseconds(), 10), true
		}
	}
	return v, ok
}
