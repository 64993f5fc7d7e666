package query

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Args are the flags of waypoint authz check that ask the query.
func (q *Query) Args() []string {
	var out []string
	add := func(flag, value string) {
		if value != "" {
			out = append(out, "--"+flag, value)
		}
	}
	add("source", q.Identity())
	if q.TCP {
		out = append(out, "--tcp")
	} else {
		add("method", q.Method)
		add("host", q.Host)
		add("path", q.Path)
		add("scheme", q.Scheme)
		for _, h := range q.Headers {
			add("header", h.Name+": "+h.Value)
		}
		if q.Claims != nil {
			add("jwt", compact(q.Claims))
		}
	}
	if q.Port != 0 {
		add("port", strconv.Itoa(int(q.Port)))
	}
	if q.DestinationIP.IsValid() {
		add("destination-ip", q.DestinationIP.String())
	}
	if q.SourceIP.IsValid() {
		add("source-ip", q.SourceIP.String())
	}
	if q.RemoteIP.IsValid() {
		add("remote-ip", q.RemoteIP.String())
	}
	add("sni", q.ServerName)
	for _, filter := range slices.Sorted(maps.Keys(q.Metadata)) {
		add("metadata", filter+"="+compact(q.Metadata[filter]))
	}
	return out
}

// Flags are Args as one line for a shell.
func (q *Query) Flags() string {
	var b strings.Builder
	for i, arg := range q.Args() {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(Quote(arg))
	}
	return b.String()
}

// String says in few words what is asked: GET /cart from cluster.local/ns/shop/sa/web.
func (q *Query) String() string {
	var words []string
	if q.TCP {
		words = append(words, "TCP")
	} else {
		words = append(words, orDash(q.Method), q.Host+orDash(q.Path))
	}
	if q.Port != 0 {
		words = append(words, "to port", strconv.Itoa(int(q.Port)))
	}
	if q.DestinationIP.IsValid() {
		words = append(words, "of", q.DestinationIP.String())
	}
	if q.Source == "" {
		words = append(words, "from nobody")
	} else {
		words = append(words, "from", strings.TrimPrefix(q.Source, spiffe))
	}
	if q.SourceIP.IsValid() {
		words = append(words, "at", q.SourceIP.String())
	}
	if q.RemoteIP.IsValid() {
		words = append(words, "for", q.RemoteIP.String())
	}
	for _, h := range q.Headers {
		words = append(words, "with", h.Name+": "+h.Value)
	}
	if q.Claims != nil && !q.TCP {
		words = append(words, "with a token", compact(q.Claims))
	}
	if q.ServerName != "" {
		words = append(words, "for the server name", q.ServerName)
	}
	for _, filter := range slices.Sorted(maps.Keys(q.Metadata)) {
		words = append(words, "with", filter, compact(q.Metadata[filter]))
	}
	return strings.Join(words, " ")
}

func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Quote writes a word so that a POSIX shell reads it back.
func Quote(s string) string {
	plain := s != ""
	for _, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("-_./:=@%+,", c) {
			plain = false
		}
	}
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
