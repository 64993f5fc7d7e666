package gen

import (
	"regexp"
	"regexp/syntax"
	"strings"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// valid leaves out what is not UTF-8, which a protobuf string cannot hold.
func valid(s string) string { return strings.ToValidUTF8(s, "") }

// text makes a string matcher.
func (w World) text(k kind) *matcherv3.StringMatcher {
	m := &matcherv3.StringMatcher{IgnoreCase: w.oneIn(4)}
	switch w.IntN(6) {
	case 0, 1:
		m.MatchPattern = &matcherv3.StringMatcher_Exact{Exact: w.word(k)}
	case 2:
		m.MatchPattern = &matcherv3.StringMatcher_Prefix{Prefix: w.nonEmpty(k)}
	case 3:
		m.MatchPattern = &matcherv3.StringMatcher_Suffix{Suffix: w.nonEmpty(k)}
	case 4:
		m.MatchPattern = &matcherv3.StringMatcher_Contains{Contains: w.nonEmpty(k)}
	default:
		m.IgnoreCase = false // Envoy refuses it with an expression
		m.MatchPattern = &matcherv3.StringMatcher_SafeRegex{SafeRegex: w.regex(k)}
	}
	return m
}

// regex makes an expression of a grammar on which RE2 and Go's regexp, its descendant, agree.
func (w World) regex(k kind) *matcherv3.RegexMatcher {
	m := &matcherv3.RegexMatcher{Regex: w.expression(k, 2)}
	if w.oneIn(8) {
		m.Regex = "(?i)" + m.Regex
	}
	if w.oneIn(16) {
		m.EngineType = &matcherv3.RegexMatcher_GoogleRe2{GoogleRe2: &matcherv3.RegexMatcher_GoogleRE2{}}
	}
	return m
}

func (w World) expression(k kind, depth int) string {
	var b strings.Builder
	for range 1 + w.IntN(3) {
		switch n := w.IntN(14); {
		case n < 4:
			b.WriteString(regexp.QuoteMeta(w.word(k)))
		case n < 7:
			b.WriteString(pick(w, []string{".*", ".+", ".", ".?", "(.+/|)", ".{2,4}"}))
		case n < 9:
			b.WriteString(pick(w, []string{"[a-z]+", "[^/]*", "[0-9]+", `\d`, `\w+`, `\s`, `[[:alpha:]]*`, `\.`, "[^a]", `\pL`, `\x{e9}`, "/ns/"}))
		case n < 10:
			b.WriteString(pick(w, []string{"^", "$", `\b`}))
		case depth > 0 && n < 12:
			b.WriteString("(" + w.expression(k, depth-1) + "|" + w.expression(k, depth-1) + ")")
		case depth > 0:
			b.WriteString("(?:" + w.expression(k, depth-1) + ")" + pick(w, []string{"?", "*", "+", "{1,2}"}))
		}
	}
	if b.Len() == 0 {
		return ".*"
	}
	return b.String()
}

// sample is a string that the expression likely matches.
func (w World) sample(expr string) string {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return ""
	}
	var b strings.Builder
	w.sampleInto(&b, re)
	return b.String()
}

func (w World) sampleInto(b *strings.Builder, re *syntax.Regexp) {
	repeat := func(lo, hi int) {
		for range lo + w.IntN(hi-lo+1) {
			w.sampleInto(b, re.Sub[0])
		}
	}
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		if len(re.Rune) > 1 {
			i := 2 * w.IntN(len(re.Rune)/2)
			b.WriteRune(re.Rune[i] + rune(w.IntN(int(min(re.Rune[i+1]-re.Rune[i], 60))+1)))
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteString(pick(w, []string{"a", "/", "1", "x", "é"}))
	case syntax.OpStar:
		repeat(0, 2)
	case syntax.OpPlus:
		repeat(1, 2)
	case syntax.OpQuest:
		repeat(0, 1)
	case syntax.OpRepeat:
		repeat(re.Min, max(re.Min, min(re.Max, re.Min+2)))
	case syntax.OpCapture:
		w.sampleInto(b, re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			w.sampleInto(b, sub)
		}
	case syntax.OpAlternate:
		w.sampleInto(b, pick(w, re.Sub))
	}
}

// beside is a string at most a few steps from s, or s.
func (w World) beside(s string) string {
	for !w.oneIn(2) {
		s = w.step(s)
	}
	return s
}

func (w World) step(s string) string {
	at := 0
	if s != "" {
		at = w.IntN(len(s))
	}
	switch w.IntN(14) {
	case 0:
		return s[:at]
	case 1:
		return s[min(at, 1):]
	case 2:
		if s != "" {
			return s[:len(s)-1]
		}
		return s
	case 3:
		return s + pick(w, []string{"a", "/", ".", ",", " x", "0", ":80", "*"})
	case 4:
		return pick(w, []string{"a", "/", ".", ",", "x "}) + s
	case 5:
		if s == "" {
			return s
		}
		return s[:at] + string([]byte{s[at] ^ 0x20}) + s[at+1:]
	case 6:
		return strings.ToUpper(s)
	case 7:
		return strings.ToLower(s)
	case 8:
		return s[:at] + pick(w, []string{"\xff", "\xc3", "\xe9", "\xc9", "日", "é", "\u2028", "\x80"}) + s[at:]
	case 9:
		return s + "," + s
	case 10:
		return ""
	case 11:
		if w.oneIn(8) {
			return s + strings.Repeat("a", 1000+w.IntN(3000))
		}
		return s + s
	case 12:
		if s == "" {
			return s
		}
		return s[:at] + string([]byte{s[at] + 1}) + s[at+1:]
	}
	return s
}

// onTheWire makes a header value of any text: without control characters, and without spaces at its ends, which
// is not part of a value.
func onTheWire(s string) string {
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if c := s[i]; c >= 0x20 && c != 0x7f {
			b = append(b, c)
		}
	}
	return strings.Trim(string(b), " ")
}
