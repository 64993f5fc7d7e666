package authz

import (
	"fmt"
	"regexp"
	"strings"
)

// maxRegexLength bounds an expression, in bytes. The longest that istiod generates holds two names of 253 bytes; RE2
// and Go's regexp bound repetition themselves.
const maxRegexLength = 16 << 10

// regex is a compiled full-match expression: a few globs where its form allows, otherwise an automaton.
type regex struct {
	globs  []glob // any of these; nil when re is used
	re     *regexp.Regexp
	prefix string // with re: what every match begins with
}

func compileRegex(expr string) (*regex, error) {
	if len(expr) > maxRegexLength {
		return nil, fmt.Errorf("regular expression of %d bytes: the limit is %d", len(expr), maxRegexLength)
	}
	expr, err := overBytes(expr)
	if err != nil {
		return nil, err
	}
	if globs, ok := globsOf(expr); ok {
		return &regex{globs: globs}, nil
	}
	// Compiled alone first: wrapped at once, "a)|(b" would become valid.
	alone, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return nil, err
	}
	prefix, _ := alone.LiteralPrefix()
	return &regex{re: re, prefix: bytesOf(prefix)}, nil
}

// match applies the expression to the whole of v.
func (x *regex) match(v string) bool {
	if x.re != nil {
		return matchBytes(x.re, v)
	}
	if strings.IndexByte(v, '\n') >= 0 {
		return false // no dot matches a newline, and globsOf takes no literal with one
	}
	for i := range x.globs {
		if x.globs[i].match(v) {
			return true
		}
	}
	return false
}
