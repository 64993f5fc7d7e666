package authz

import "testing"

// Envoy keeps some headers on one line. A value of it that Envoy does not see must not allow, and one of the lines denies too.
func TestOneLine(t *testing.T) {
	for _, c := range []struct {
		name           string
		pattern        Pattern
		lines          []string
		allows, denies bool
	}{
		{"User-Agent", Exact("a"), []string{"a"}, true, true},
		{"User-Agent", Exact("a"), []string{"a", "a"}, false, true}, // Envoy sees "a,a"
		{"x-agent", Exact("a"), []string{"a", "a"}, true, true},
		{"User-Agent", Prefix("a"), []string{"a", "ab"}, true, true},
		{"User-Agent", Exact("a,b"), []string{"a", "b"}, false, true},
		{"User-Agent", Exact("a"), []string{"a", ""}, false, true}, // Envoy sees "a", and would allow
		{"via", Exact("a,b"), []string{"", "a", "", "b", ""}, false, true},
		{"x-via", Exact("a,b"), []string{"", "a", "b"}, false, false},
		{"cookie", Exact("a"), []string{"a", "a"}, true, true},
	} {
		h := &Header{Name: c.name, Pattern: c.pattern}
		r := &Request{HTTP: true, Headers: mapHeaders{lowerASCII(c.name): c.lines}}
		policy := Policy{"p", []Clause{h}, []Clause{Always{}}}
		if got := compiled(Allow, policy).Decide(r).Allowed; got != c.allows {
			t.Errorf("%s %q wants %s: allowed is %v", c.name, c.lines, &c.pattern, got)
		}
		if got := !compiled(Deny, policy).Decide(r).Allowed; got != c.denies {
			t.Errorf("%s %q wants %s: denied is %v", c.name, c.lines, &c.pattern, got)
		}
	}
}
