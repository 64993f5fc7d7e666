package cors

import (
	"fmt"
	"regexp"
	"strings"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// origin is a compiled StringMatcher.
type origin struct {
	match   func(string) bool
	anybody bool // it matches "*", which allows everybody
}

func newOrigin(m *matcherv3.StringMatcher) (origin, error) {
	match, err := compileString(m)
	if err != nil {
		return origin{}, err
	}
	return origin{match, match("*")}, nil
}

// compileString compiles a StringMatcher. ignore_case concerns ASCII letters, and has no effect on safe_regex, as in
// Envoy.
func compileString(m *matcherv3.StringMatcher) (func(string) bool, error) {
	fold := func(s string) string { return s }
	if m.GetIgnoreCase() {
		fold = lower
	}
	var with func(s, want string) bool
	var want string
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		with, want = func(s, want string) bool { return s == want }, p.Exact
	case *matcherv3.StringMatcher_Prefix:
		with, want = strings.HasPrefix, p.Prefix
	case *matcherv3.StringMatcher_Suffix:
		with, want = strings.HasSuffix, p.Suffix
	case *matcherv3.StringMatcher_Contains:
		with, want = strings.Contains, p.Contains
	case *matcherv3.StringMatcher_SafeRegex:
		re, err := regexp.Compile(`\A(?:` + p.SafeRegex.GetRegex() + `)\z`) // Envoy matches the whole value
		if err != nil {
			return nil, fmt.Errorf("safe_regex.regex: %w", err)
		}
		return re.MatchString, nil
	default:
		return nil, fmt.Errorf("match_pattern: %T is not supported", p)
	}
	want = fold(want)
	return func(s string) bool { return with(fold(s), want) }, nil
}

// lower lowers ASCII letters only: Kelvin's sign is not a k.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
