package witness

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

// value is a value of one dimension. What it is depends on the dimension: text for most, a set of claims, an address.
type value struct {
	text   string
	absent bool
	any    any // of a claim or of metadata, when it is not text
	token  token
	id     string // equal for equal values; set by unique
}

// token is the identity in a JSON web token.
type token struct{ issuer, subject string }

func texts(list ...string) []value {
	var out []value
	for _, s := range list {
		out = append(out, value{text: s})
	}
	return out
}

// unique drops the values that are there already, and gives each its id.
func unique(list []value) []value {
	seen := map[string]bool{}
	var out []value
	for _, v := range list {
		if v.id = fmt.Sprintf("%v %q %v %q", v.absent, v.text, v.any, v.token); !seen[v.id] {
			seen[v.id] = true
			out = append(out, v)
		}
	}
	return out
}

// put sets a dimension of a query. Maps are copied, so that queries share nothing that is written.
func put(q *query.Query, d alternative.Dimension, v value) {
	switch d.Kind {
	case alternative.Source:
		q.Source = v.text
	case alternative.Method:
		q.Method = v.text
	case alternative.Host:
		q.Host = v.text
	case alternative.Path:
		q.Path = v.text
	case alternative.ServerName:
		q.ServerName = v.text
	case alternative.Port:
		var n int
		_, _ = fmt.Sscan(v.text, &n)
		q.Port = uint16(n) //nolint:gosec // candidates are made of 16-bit numbers
	case alternative.SourceIP:
		q.SourceIP, _ = netip.ParseAddr(v.text)
	case alternative.RemoteIP:
		q.RemoteIP, _ = netip.ParseAddr(v.text)
	case alternative.DestinationIP:
		q.DestinationIP, _ = netip.ParseAddr(v.text)
	case alternative.Head:
		q.Headers = slices.DeleteFunc(slices.Clone(q.Headers), func(h query.Header) bool { return strings.EqualFold(h.Name, d.Name) })
		if !v.absent {
			q.Headers = append(q.Headers, query.Header{Name: d.Name, Value: v.text})
		}
	case alternative.Token:
		q.Claims = with(q.Claims, []string{"iss"}, v.token.issuer, v.absent)
		q.Claims = with(q.Claims, []string{"sub"}, v.token.subject, v.absent)
	case alternative.Claim:
		q.Claims = with(q.Claims, strings.Split(d.Name, "]["), v.content(), v.absent)
	case alternative.Metadata:
		filter, key, _ := strings.Cut(strings.TrimSuffix(d.Name, "]"), "[")
		m := map[string]map[string]any{}
		for k, values := range q.Metadata {
			m[k] = values
		}
		if m[filter] = with(m[filter], []string{key}, v.content(), v.absent); m[filter] == nil {
			delete(m, filter)
		}
		if q.Metadata = m; len(m) == 0 {
			q.Metadata = nil
		}
	}
}

func (v value) content() any {
	if v.any != nil {
		return v.any
	}
	return v.text
}

// with returns a copy of nested maps in which the path leads to a value, or to nothing.
func with(m map[string]any, path []string, v any, absent bool) map[string]any {
	out := map[string]any{}
	for k, old := range m {
		out[k] = old
	}
	switch {
	case len(path) > 1:
		inner, _ := m[path[0]].(map[string]any)
		if inner = with(inner, path[1:], v, absent); inner != nil {
			out[path[0]] = inner
		} else {
			delete(out, path[0])
		}
	case absent:
		delete(out, path[0])
	default:
		out[path[0]] = v
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
