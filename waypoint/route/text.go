package route

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// textKind is how a text compares.
type textKind uint8

const (
	exactly textKind = iota
	prefixed
	suffixed
	containing
	byRegex
)

// text is a compiled StringMatcher.
type text struct {
	kind  textKind
	value string
	// fold ignores the case of ASCII letters, as Envoy does; not of an expression.
	fold bool
	re   *regexp.Regexp
}

func (t *text) match(v string) bool {
	n := len(t.value)
	switch t.kind {
	case exactly:
		return len(v) == n && t.same(v)
	case prefixed:
		return len(v) >= n && t.same(v[:n])
	case suffixed:
		return len(v) >= n && t.same(v[len(v)-n:])
	case containing:
		if !t.fold {
			return strings.Contains(v, t.value)
		}
		for i := 0; i+n <= len(v); i++ {
			if t.same(v[i : i+n]) {
				return true
			}
		}
		return false
	default:
		return fullMatch(t.re, v)
	}
}

// same compares v, which has the value's length.
func (t *text) same(v string) bool { return v == t.value || t.fold && equalFold(v, t.value) }

// equalFold compares two strings of one length without regard to the case of ASCII letters.
func equalFold(a, b string) bool {
	for i := 0; i < len(a); i++ {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// compileFull compiles an expression that must match all of a text.
func compileFull(expr string) (*regexp.Regexp, error) {
	// Alone first: wrapped at once, "a)|(b" would become valid.
	if _, err := regexp.Compile(expr); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + expr + `)\z`)
}

// fullMatch applies what compileFull made. RE2 in Envoy reads UTF-8 and matches no other bytes.
func fullMatch(re *regexp.Regexp, v string) bool { return utf8.ValidString(v) && re.MatchString(v) }
