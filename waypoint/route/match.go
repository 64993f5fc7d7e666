package route

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// PathKind is how a route matches paths.
type PathKind uint8

// The kinds of RouteMatch.path_specifier.
const (
	// PathAny matches every request, one without a path included. No route has it but one that stands for a virtual host
	// that is refused.
	PathAny PathKind = iota
	PathPrefix
	PathExact
	PathRegex
	// PathSeparatedPrefix ends at the path's end or at a "/".
	PathSeparatedPrefix
	// PathConnect is connect_matcher: the method CONNECT.
	PathConnect
)

// Match is a compiled RouteMatch: all of it must match.
type Match struct {
	Kind PathKind
	// Path is the text of PathPrefix, PathExact, PathSeparatedPrefix, and the source of PathRegex.
	Path string
	// IgnoreCase is the opposite of case_sensitive; an expression has its own flags.
	IgnoreCase bool
	Headers    []HeaderMatch
	Query      []QueryMatch
	Cookies    []CookieMatch
	Metadata   []MetadataMatch
	// GRPC: only gRPC requests.
	GRPC bool
	// Fraction is runtime_fraction's default value: this part of the requests. nil: all.
	Fraction *Fraction
	// Presented and Validated are tls_context's; nil: any.
	Presented, Validated *bool

	regex *regexp.Regexp
}

// Fraction is a FractionalPercent.
type Fraction struct{ Numerator, Denominator uint32 }

// matches tells whether the route is the request's. path is the part that routes match, see beforeQuery.
func (m *Match) matches(r *Request, path string) bool {
	h := r.Head
	if !m.matchesPath(h, path) {
		return false
	}
	if m.Fraction != nil && r.draw()%uint64(m.Fraction.Denominator) >= uint64(m.Fraction.Numerator) {
		return false
	}
	if m.GRPC && !isGRPC(h) {
		return false
	}
	for i := range m.Headers {
		if !m.Headers[i].Match(h) {
			return false
		}
	}
	for i := range m.Query {
		if !m.Query[i].match(h.Path) {
			return false
		}
	}
	for i := range m.Cookies {
		if !m.Cookies[i].match(h) {
			return false
		}
	}
	if m.Presented != nil && *m.Presented != r.ClientCert || m.Validated != nil && *m.Validated != r.ClientCert {
		return false
	}
	for i := range m.Metadata {
		if !m.Metadata[i].match(r) {
			return false
		}
	}
	return true
}

func (m *Match) matchesPath(h *message.Head, path string) bool {
	switch m.Kind {
	case PathAny:
		return true
	case PathConnect:
		return h.Method == http.MethodConnect
	}
	if h.Path == "" { // CONNECT: as in Envoy, no other matcher is for it
		return false
	}
	switch m.Kind {
	case PathPrefix:
		return m.hasPrefix(path)
	case PathExact:
		return len(path) == len(m.Path) && m.hasPrefix(path)
	case PathSeparatedPrefix:
		return m.hasPrefix(path) && (len(path) == len(m.Path) || path[len(m.Path)] == '/')
	default:
		return fullMatch(m.regex, path)
	}
}

func (m *Match) hasPrefix(path string) bool {
	if m.IgnoreCase {
		return len(path) >= len(m.Path) && equalFold(path[:len(m.Path)], m.Path)
	}
	return strings.HasPrefix(path, m.Path)
}

// matched is how many bytes of a path prefix_rewrite replaces; -1: all before the query, which is what an expression has matched.
func (m *Match) matched() int {
	switch m.Kind {
	case PathPrefix, PathExact, PathSeparatedPrefix:
		return len(m.Path)
	default:
		return -1
	}
}

// beforeQuery is a path without its query and fragment and, if wanted, without what follows a ";".
func beforeQuery(path string, withoutParameters bool) string {
	for i := 0; i < len(path); i++ {
		if c := path[i]; c == '?' || c == '#' || withoutParameters && c == ';' {
			return path[:i]
		}
	}
	return path
}

// isGRPC tells whether the content type is application/grpc, perhaps with a suffix.
func isGRPC(h *message.Head) bool {
	rest, ok := strings.CutPrefix(h.Fields.Value(header.ContentType), "application/grpc")
	return ok && (rest == "" || rest[0] == '+')
}
