package authzcmd

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// pathWarnings points out a path that is allowed as it is written, and that a backend may read as one that is denied: by doing
// what a stronger mode of normalisation would have done.
func (q *question) pathWarnings(out *result) {
	if out.Verdict != "ALLOW" || q.TCP {
		return
	}
	at := slices.Index(modes, q.subject.mode)
	for _, mode := range modes[at+1:] {
		o, err := manifest.Normalization(mode)
		if err != nil {
			continue
		}
		if r, err := q.Request(o); err == nil && r.Path != out.Request.Path && q.warn(out, r, "with pathNormalization "+mode+" it would be denied") {
			return
		}
	}
	if !pathnorm.Suspicious(out.Request.Path) {
		return
	}
	other := *q
	other.Path = lenient(out.Request.Path)
	if r, err := other.Request(pathnorm.DecodeAndMergeSlashes); err == nil && r.Path != out.Request.Path {
		q.warn(out, r, "no mode of pathNormalization sees that; an ALLOW policy with the exact paths does")
	}
}

// warn adds a warning if the path in its other form is denied.
func (q *question) warn(out *result, r *authz.Request, how string) bool {
	d := q.subject.chain.Decide(r)
	if d.Allowed {
		return false
	}
	why := "no ALLOW policy matches it"
	if d.Policy != "" {
		why = q.subject.ref(d.Policy, d.Source, actionName(d.Action)).String() + " denies it"
	}
	out.Warnings = append(out.Warnings, fmt.Sprintf("a backend may read the path %q as %q, and %s: %s", out.Request.Path, r.Path, why, how))
	return true
}

// lenient reads a path as the most obliging backend does: without path parameters, and decoded twice.
func lenient(target string) string {
	path, query, _ := strings.Cut(target, "?")
	for range 2 {
		if p, err := url.PathUnescape(path); err == nil {
			path = p
		}
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	path = strings.Join(segments, "/")
	if query != "" {
		path += "?" + query
	}
	return path
}
