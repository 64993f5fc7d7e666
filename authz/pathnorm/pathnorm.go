// Package pathnorm normalises request paths as Envoy's HTTP connection manager does, so that policy, routes and the backend
// all see one form. It is the same for the proxy and for whoever evaluates policy offline.
//
// The steps and their order are Envoy's (1.40): escaped slashes first, then RFC 3986 normalisation (normalize_path), then
// merging of slashes (merge_slashes), so that a slash which only appears by decoding is merged too. A dot segment with parameters,
// "/..;x/", is taken for the dot segment before it is resolved, since some backends read it as that. Istio's mesh-wide
// pathNormalization sets them: NONE, BASE (the default), MERGE_SLASHES, DECODE_AND_MERGE_SLASHES.
//
// BASE leaves //admin, /%2fadmin, /%5cadmin and /;/admin as they are: a policy on /admin does not match them. That is Envoy's
// verdict and Istio's documented behaviour; see [Suspicious] for pointing it out.
package pathnorm

import "strings"

// Options is which steps are taken.
type Options struct {
	// Normalize: dots are resolved, "\" becomes "/", unreserved characters are decoded, unsafe ones encoded.
	Normalize bool
	// MergeSlashes: several slashes become one.
	MergeSlashes bool
	// UnescapeSlashes: %2F and %5C (in any case) become "/" and "\" first. The caller decides what a change means: forward,
	// redirect or reject.
	UnescapeSlashes bool
}

// Istio's modes (MeshConfig.pathNormalization).
var (
	None                  = Options{}
	Base                  = Options{Normalize: true}
	MergeSlashes          = Options{Normalize: true, MergeSlashes: true}
	DecodeAndMergeSlashes = Options{Normalize: true, MergeSlashes: true, UnescapeSlashes: true}
)

// Normalize returns the normalised path-and-query. unescaped tells that an escaped slash was decoded. ok is false when the path
// cannot be normalised (an encoded or plain NUL): the request must be refused with 400.
//
// The query is not touched. A path that needs no change is returned as it is, without an allocation. "*" and "" (OPTIONS *,
// CONNECT) are left alone.
func Normalize(target string, o Options) (result string, unescaped, ok bool) {
	if target == "" || target == "*" {
		return target, false, true
	}
	path, query := target, ""
	if i := strings.IndexByte(target, '?'); i >= 0 {
		path, query = target[:i], target[i:]
	}
	if path == "" {
		return target, false, true
	}
	changed := false
	if o.UnescapeSlashes && strings.IndexByte(path, '%') >= 0 {
		if p := unescapeSlashes(path); p != path {
			path, changed, unescaped = p, true, true
		}
	}
	if o.Normalize && strings.Contains(path, ";") {
		if p := dropDotParameters(path); p != path {
			path, changed = p, true
		}
	}
	if o.Normalize && !isNormal(path) {
		p, valid := canonicalize(path)
		if !valid {
			return target, unescaped, false
		}
		path, changed = p, true
	}
	if o.MergeSlashes && strings.Contains(path, "//") {
		path, changed = mergeSlashes(path), true
	}
	if !changed {
		return target, false, true
	}
	return path + query, unescaped, true
}

// StripFragment cuts what follows "#", in the path or in the query.
func StripFragment(target string) string {
	if i := strings.IndexByte(target, '#'); i >= 0 {
		return target[:i]
	}
	return target
}

// Suspicious tells whether a normalised path has a form that a backend may read as another path: empty or parameterised
// segments, escaped slashes, backslashes or percent signs. Policy still decides on the path as it is; this is for warnings.
func Suspicious(target string) bool {
	path := target
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	if strings.Contains(path, "//") || strings.IndexByte(path, ';') >= 0 {
		return true
	}
	for i := 0; i+2 < len(path); i++ {
		if path[i] != '%' {
			continue
		}
		switch v, ok := unhex(path[i+1], path[i+2]); {
		case ok && (v == '/' || v == '\\' || v == '%' || v == '.'):
			return true
		}
	}
	return false
}

// dropDotParameters cuts the parameters of dot segments that are written out: "/..;x/" becomes "/../". An escaped dot, and "\", are
// not looked at: both get their meaning only later.
func dropDotParameters(path string) string {
	var b strings.Builder
	for segment := range strings.SplitSeq(path, "/") {
		name, _, ok := strings.Cut(segment, ";")
		if ok && (name == "." || name == "..") {
			segment = name
		}
		b.WriteString(segment)
		b.WriteByte('/')
	}
	joined := b.String()
	return joined[:len(joined)-1]
}

func unescapeSlashes(path string) string {
	var b strings.Builder
	b.Grow(len(path))
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if v, ok := unhex(path[i+1], path[i+2]); ok && (v == '/' || v == '\\') {
				b.WriteByte(v)
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

// mergeSlashes keeps a path of nothing but slashes as "//", as Envoy does: it takes the first for where the path begins and the
// last for where it ends.
func mergeSlashes(path string) string {
	if strings.Trim(path, "/") == "" {
		return "//"
	}
	b := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		if path[i] == '/' && len(b) > 0 && b[len(b)-1] == '/' {
			continue
		}
		b = append(b, path[i])
	}
	return string(b)
}
