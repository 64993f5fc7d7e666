package route

import (
	"strconv"
	"strings"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// HeaderMatch is a compiled HeaderMatcher.
type HeaderMatch struct {
	Name                string // lower-case, or a pseudo-header
	Invert              bool
	TreatMissingAsEmpty bool

	test     headerTest
	present  bool
	value    text
	from, to int64
}

// headerTest is what a HeaderMatch looks at.
type headerTest uint8

const (
	testPresence headerTest = iota
	testValue
	testRange
)

// Match tells whether the head's fields of that name match. Several lines count as one value, joined by commas; that joining
// is the only thing that allocates here. As in Envoy a field that is not there matches no value, inverted or not, unless it
// counts as empty.
func (m *HeaderMatch) Match(h *message.Head) bool {
	v, ok := m.lookup(h)
	if m.test == testPresence {
		return ((ok || m.TreatMissingAsEmpty) == m.present) != m.Invert
	}
	if !ok && !m.TreatMissingAsEmpty {
		return false
	}
	if m.test == testRange {
		n, isInt := parseInt(v)
		return (isInt && m.from <= n && n < m.to) != m.Invert
	}
	return m.value.match(v) != m.Invert
}

func (m *HeaderMatch) lookup(h *message.Head) (string, bool) {
	if m.Name == ":status" {
		return strconv.Itoa(h.Status), h.Status != 0
	}
	first, ok := h.Nth(m.Name, 0)
	if !ok || m.test == testPresence {
		return first, ok
	}
	second, more := h.Nth(m.Name, 1)
	if !more {
		return first, true
	}
	var all strings.Builder
	all.WriteString(first)
	for i := 2; more; i++ {
		all.WriteByte(',')
		all.WriteString(second)
		second, more = h.Nth(m.Name, i)
	}
	return all.String(), true
}

// parseInt reads a decimal integer, with white space around it as Envoy admits. Unlike strconv.ParseInt it makes no error
// value for each text that is none.
func parseInt(s string) (int64, bool) {
	s = strings.Trim(s, " \t")
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	if s == "" || len(s) > 19 {
		return 0, false
	}
	var n uint64
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + uint64(s[i]-'0')
	}
	switch {
	case negative && n <= 1<<63:
		return -int64(n), true
	case !negative && n < 1<<63:
		return int64(n), true
	}
	return 0, false
}
