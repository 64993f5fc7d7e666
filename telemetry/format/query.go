package format

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// queryOf is the query of the path, without its question mark and fragment.
func queryOf(r *record) (query string, ok bool) {
	path, ok := r.RequestHeader(":path")
	if !ok {
		return "", false
	}
	_, query, ok = strings.Cut(path, "?")
	query, _, _ = strings.Cut(query, "#")
	return query, ok
}

// queryParam is %QUERY_PARAM(name)%: the first value of that name, percent-decoded as Envoy does.
func queryParam(p part, _ Options) (operator, error) {
	if p.arg == "" {
		return nil, errors.New("needs the name of a parameter in parentheses")
	}
	name := p.arg
	return func(dst []byte, r *record) ([]byte, kind) {
		query, ok := queryOf(r)
		if !ok {
			return dst, absent
		}
		for pair := range strings.SplitSeq(query, "&") {
			key, value, _ := strings.Cut(pair, "=")
			if decoded(key) == name {
				return append(dst, decoded(value)...), text
			}
		}
		return dst, absent
	}, nil
}

// queryParams is %QUERY_PARAMS(ORIG)%, the query as it is, or %QUERY_PARAMS(DECODED)%, which Envoy takes apart and puts together
// again: sorted by name, and encoded in one way.
func queryParams(p part, _ Options) (operator, error) {
	switch p.arg {
	case "", "ORIG", "DECODED":
	default:
		return nil, fmt.Errorf("argument %q: wanted ORIG or DECODED", p.arg)
	}
	return func(dst []byte, r *record) ([]byte, kind) {
		query, ok := queryOf(r)
		switch {
		case !ok || query == "":
			return dst, absent
		case p.arg != "DECODED":
			return append(dst, query...), text
		}
		pairs := strings.Split(query, "&")
		for i, pair := range pairs {
			key, value, _ := strings.Cut(pair, "=")
			pairs[i] = encoded(decoded(key)) + "=" + encoded(decoded(value))
		}
		slices.SortStableFunc(pairs, func(a, b string) int {
			a, _, _ = strings.Cut(a, "=")
			b, _, _ = strings.Cut(b, "=")
			return strings.Compare(a, b)
		})
		return append(dst, strings.Join(pairs, "&")...), text
	}, nil
}

func encoded(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// decoded removes percent-encoding; what is malformed stays.
func decoded(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	if d, err := url.PathUnescape(s); err == nil {
		return d
	}
	return s
}

// serverName is %REQUESTED_SERVER_NAME(X:Y)%: the SNI, or the host that was asked for.
func serverName(p part, _ Options) (operator, error) {
	which, source, _ := strings.Cut(p.arg, ":")
	var names []string
	switch source {
	case "", "ORIG_OR_HOST":
		names = []string{"x-envoy-original-host", ":authority"}
	case "ORIG":
		names = []string{"x-envoy-original-host"}
	case "HOST":
		names = []string{":authority"}
	default:
		return nil, fmt.Errorf("argument %q: wanted ORIG, HOST or ORIG_OR_HOST", p.arg)
	}
	host := func(r *record) string {
		for _, n := range names {
			if v, ok := r.RequestHeader(n); ok {
				return v
			}
		}
		return ""
	}
	switch which {
	case "", "SNI_ONLY":
		return str(func(r *record) string { return r.RequestedServerName }), nil
	case "SNI_FIRST":
		return str(func(r *record) string { return orElse(r.RequestedServerName, host(r)) }), nil
	case "HOST_FIRST":
		return str(func(r *record) string { return orElse(host(r), r.RequestedServerName) }), nil
	}
	return nil, fmt.Errorf("argument %q: wanted SNI_ONLY, SNI_FIRST or HOST_FIRST", p.arg)
}
