package route

import (
	"strings"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// QueryMatch is a compiled QueryParameterMatcher. Names and values compare as they were sent: nothing is decoded.
type QueryMatch struct {
	Name string
	// value is nil if it is enough that the parameter is there. present_match: false asks for that too, as in Envoy.
	value *text
}

func (m *QueryMatch) match(path string) bool {
	v, ok := queryParameter(path, m.Name)
	return ok && (m.value == nil || m.value.match(v))
}

// queryParameter returns the value of the first parameter of that name.
func queryParameter(path, name string) (string, bool) {
	_, query, _ := strings.Cut(path, "?")
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if k, v, _ := strings.Cut(pair, "="); k == name {
			return v, true
		}
	}
	return "", false
}

// CookieMatch is a compiled CookieMatcher. A cookie that is not there does not match, and does if inverted.
type CookieMatch struct {
	Name   string
	Invert bool
	value  text
}

func (m *CookieMatch) match(h *message.Head) bool {
	v, ok := cookie(h, m.Name)
	return (ok && m.value.match(v)) != m.Invert
}

// cookie returns the value of the first cookie of that name, without quotes around it.
func cookie(h *message.Head, name string) (string, bool) {
	for i := range h.Fields.Len() {
		f := h.Fields.At(i)
		if f.ID != header.Cookie {
			continue
		}
		for rest := f.Value; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, ";")
			k, v, ok := strings.Cut(pair, "=")
			if !ok || strings.TrimSpace(k) != name {
				continue
			}
			v = strings.TrimSpace(v)
			if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
				v = v[1 : len(v)-1]
			}
			return v, true
		}
	}
	return "", false
}
