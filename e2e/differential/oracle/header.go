package oracle

import (
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// OneLine are the headers that Envoy 1.40 keeps on one line: further lines are appended to the first, after a comma. Of all
// others the lines stay apart. (What its connection manager removes from a request is not here.)
var OneLine = []string{
	"accept", "accept-encoding", "access-control-request-headers", "access-control-request-method",
	"access-control-request-private-network", "authentication", "authorization", "cache-control", "content-encoding",
	"content-type", "expect", "grpc-accept-encoding", "grpc-timeout", "if-match", "if-modified-since", "if-none-match",
	"if-range", "if-unmodified-since", "origin", "pragma", "referer", "user-agent", "via", "x-client-trace-id",
	"x-envoy-attempt-count", "x-envoy-decorator-operation", "x-envoy-downstream-service-cluster",
	"x-envoy-downstream-service-node", "x-envoy-external-address", "x-envoy-is-timeout-retry", "x-envoy-original-host",
	"x-envoy-original-path", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-request-id",
}

// lines are the values of a header or pseudo-header as they came.
func (w *world) lines(name string) []string {
	if !w.HTTP {
		return nil
	}
	one := func(v string) []string {
		if v == "" {
			return nil
		}
		return []string{v}
	}
	switch name {
	case ":method":
		return one(w.Method)
	case ":scheme":
		return one(w.Scheme)
	case ":path":
		return one(w.Path)
	case ":authority", "host":
		return []string{w.Authority} // HTTP/1.1 requires a Host, and an empty one is there
	}
	var all []string
	for i := 0; ; i++ {
		v, ok := w.Headers.Header(name, i)
		if !ok {
			return all
		}
		all = append(all, v)
	}
}

func (w *world) header(m *routev3.HeaderMatcher, certain bool) bool {
	name := strings.ToLower(m.GetName())
	values := w.lines(name)
	if len(values) == 0 && m.GetTreatMissingHeaderAsEmpty() {
		values = []string{""}
	}
	switch match := m.GetHeaderMatchSpecifier().(type) {
	case nil:
		return (len(values) > 0) != m.GetInvertMatch()
	case *routev3.HeaderMatcher_PresentMatch:
		return (len(values) > 0) == match.PresentMatch != m.GetInvertMatch()
	}
	if len(values) == 0 {
		return false
	}
	invert := m.GetInvertMatch()
	test := func(v string) bool { return value(m, v) != invert }
	if w.with&RepeatedHeader == 0 || len(values) == 1 {
		if slices.Contains(OneLine, name) {
			values = []string{join(name, values)}
		}
		// The inversion is of the result for all the lines together.
		return slices.ContainsFunc(values, func(v string) bool { return value(m, v) }) != invert
	}
	joined := test(join(name, values))
	if certain {
		fails := func(v string) bool { return !test(v) }
		return !slices.ContainsFunc(values, fails) && (joined || !slices.Contains(OneLine, name))
	}
	return slices.ContainsFunc(values, test) || joined
}

// join makes one line. On that of a header that Envoy keeps on one, empty values leave nothing.
func join(name string, values []string) string {
	if slices.Contains(OneLine, name) {
		values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" })
	}
	return strings.Join(values, ",")
}

func value(m *routev3.HeaderMatcher, v string) bool {
	switch match := m.GetHeaderMatchSpecifier().(type) {
	case *routev3.HeaderMatcher_ExactMatch:
		return match.ExactMatch == "" || v == match.ExactMatch
	case *routev3.HeaderMatcher_PrefixMatch:
		return strings.HasPrefix(v, match.PrefixMatch)
	case *routev3.HeaderMatcher_SuffixMatch:
		return strings.HasSuffix(v, match.SuffixMatch)
	case *routev3.HeaderMatcher_ContainsMatch:
		return strings.Contains(v, match.ContainsMatch)
	case *routev3.HeaderMatcher_SafeRegexMatch:
		return regex(match.SafeRegexMatch, v)
	case *routev3.HeaderMatcher_StringMatch:
		return text(match.StringMatch, v)
	case *routev3.HeaderMatcher_RangeMatch:
		n, err := strconv.ParseInt(strings.Trim(v, " \t\n\v\f\r"), 10, 64)
		return err == nil && match.RangeMatch.GetStart() <= n && n < match.RangeMatch.GetEnd()
	}
	panic("the oracle does not know this header matcher")
}

func (w *world) urlPath(m *matcherv3.PathMatcher) bool {
	path, ok := w.pathOnly()
	return ok && text(m.GetPath(), path)
}

func (w *world) pathOnly() (string, bool) {
	if !w.HTTP || w.Path == "" {
		return "", false
	}
	path, _, _ := strings.Cut(w.Path, "?")
	path, _, _ = strings.Cut(path, "#")
	return path, true
}
