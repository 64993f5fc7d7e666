package authz

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Pattern is a test of one string, as envoy.type.matcher.v3.StringMatcher. Make one with [Exact], [Prefix],
// [Suffix], [Contains] or [Regex]. It is immutable. The zero Pattern matches only the empty string.
type Pattern struct {
	op    patternOp
	fold  bool   // compare ASCII letters without case
	text  string // lower case when fold is set
	regex *regex // for opRegex
	// ranges is for opAddress.
	ranges []netip.Prefix
}

type patternOp uint8

const (
	opExact patternOp = iota
	opPrefix
	opSuffix
	opContains
	opRegex
	opAddress
)

// Exact matches the whole string.
func Exact(s string) Pattern { return Pattern{op: opExact, text: s} }

// Prefix matches strings that begin with s.
func Prefix(s string) Pattern { return Pattern{op: opPrefix, text: s} }

// Suffix matches strings that end with s.
func Suffix(s string) Pattern { return Pattern{op: opSuffix, text: s} }

// Contains matches strings with s somewhere in them.
func Contains(s string) Pattern { return Pattern{op: opContains, text: s} }

// Regex matches strings that the RE2 expression matches from end to end, as safe_regex does: a dot does not match a
// newline unless the expression says (?s), and every byte is a character of its own (latin1.go). Expressions made only of literals and of .* and .+, with optional groups,
// are run as string operations.
func Regex(expr string) (Pattern, error) {
	x, err := compileRegex(expr)
	if err != nil {
		return Pattern{}, err
	}
	return Pattern{op: opRegex, text: expr, regex: x}, nil
}

// AddressIn matches the text of an IP address in one of the ranges. Whether ::ffff:10.0.0.1 is also 10.0.0.1 is for
// whoever reads the text to say: it certainly matches only if it does so both ways, and possibly if it does in one.
func AddressIn(ranges ...netip.Prefix) Pattern {
	return Pattern{op: opAddress, text: fmt.Sprint(ranges), ranges: slices.Clone(ranges)}
}

// IgnoreCase returns the pattern with ASCII letters compared without case. It has no effect on a regular
// expression, as in Envoy, where only (?i) inside the expression does that, nor on addresses.
func (p Pattern) IgnoreCase() Pattern {
	if p.op < opRegex {
		p.fold, p.text = true, lowerASCII(p.text)
	}
	return p
}

// Match reports whether the pattern matches v, as Envoy would answer.
func (p *Pattern) Match(v string) bool { return p.match(v, certainly) }

func (p *Pattern) match(v string, r reading) bool {
	if p.fold {
		return p.matchFold(v)
	}
	switch p.op {
	case opExact:
		return v == p.text
	case opPrefix:
		return strings.HasPrefix(v, p.text)
	case opSuffix:
		return strings.HasSuffix(v, p.text)
	case opContains:
		return strings.Contains(v, p.text)
	case opAddress:
		return addressIn(v, p.ranges, r)
	default:
		return p.regex.match(v)
	}
}

func addressIn(v string, ranges []netip.Prefix, r reading) bool {
	addr, err := netip.ParseAddr(v)
	return err == nil && slices.ContainsFunc(ranges, func(rng netip.Prefix) bool { return within(addr, rng, r) })
}

func (p *Pattern) matchFold(v string) bool {
	n := len(p.text)
	if len(v) < n {
		return false
	}
	switch p.op {
	case opExact:
		return len(v) == n && equalFoldASCII(v, p.text)
	case opPrefix:
		return equalFoldASCII(v[:n], p.text)
	case opSuffix:
		return equalFoldASCII(v[len(v)-n:], p.text)
	default:
		for i := 0; i+n <= len(v); i++ {
			if equalFoldASCII(v[i:i+n], p.text) {
				return true
			}
		}
		return false
	}
}

// String says what the pattern wants, for an explanation.
func (p *Pattern) String() string {
	form := [...]string{opExact: "", opPrefix: "prefix ", opSuffix: "suffix ", opContains: "containing ", opRegex: "regex "}
	if p.op == opAddress {
		return "an address in " + p.text
	}
	s := form[p.op] + strconv.Quote(p.text)
	if p.fold {
		s += " in any case"
	}
	return s
}

// equalFoldASCII compares v with lower, which is already in lower case and as long as v.
func equalFoldASCII(v, lower string) bool {
	for i := range len(v) {
		if lowerByte(v[i]) != lower[i] {
			return false
		}
	}
	return true
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = lowerByte(c)
	}
	return string(b)
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}
