package authz

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern   Pattern
		yes, no   []string
		described string
	}{
		{Exact("Ab"), []string{"Ab"}, []string{"", "ab", "Abc"}, `"Ab"`},
		{Prefix("Ab"), []string{"Ab", "Abc"}, []string{"A", "abc"}, `prefix "Ab"`},
		{Suffix("Ab"), []string{"Ab", "cAb"}, []string{"b", "cab"}, `suffix "Ab"`},
		{Contains("Ab"), []string{"Ab", "cAbc"}, []string{"A b", "cab"}, `containing "Ab"`},
		{Exact("Ab").IgnoreCase(), []string{"Ab", "aB"}, []string{"", "abc"}, `"ab" in any case`},
		{Prefix("Ab").IgnoreCase(), []string{"AB", "abc"}, []string{"a", "cab"}, `prefix "ab" in any case`},
		{Suffix("Ab").IgnoreCase(), []string{"aB", "cAB"}, []string{"b", "abc"}, `suffix "ab" in any case`},
		{Contains("Ab").IgnoreCase(), []string{"aB", "cABc"}, []string{"", "a", "acb"}, `containing "ab" in any case`},
		// Only ASCII letters have no case: the Kelvin sign is not a k, and Ä is not ä.
		{Exact("kä").IgnoreCase(), []string{"Kä"}, []string{"\u212aä", "kÄ"}, `"kä" in any case`},
		{mustRegex(t, "a|b"), []string{"a", "b"}, []string{"", "ab", "a\n"}, `regex "a|b"`},
		{mustRegex(t, "A").IgnoreCase(), []string{"A"}, []string{"a"}, `regex "A"`},
		{mustRegex(t, "(?i)A"), []string{"A", "a"}, []string{"aa"}, `regex "(?i)A"`},
		{mustRegex(t, ".+"), []string{"a", "é", "\xff"}, []string{"", "a\nb"}, `regex ".+"`},
		{mustRegex(t, "(?s).+"), []string{"a\nb", "\xff"}, []string{""}, `regex "(?s).+"`},
		{Pattern{}, []string{""}, []string{"a"}, `""`},
	} {
		for _, v := range c.yes {
			if !c.pattern.Match(v) {
				t.Errorf("%s does not match %q", &c.pattern, v)
			}
		}
		for _, v := range c.no {
			if c.pattern.Match(v) {
				t.Errorf("%s matches %q", &c.pattern, v)
			}
		}
		if got := c.pattern.String(); got != c.described {
			t.Errorf("%s is described as %s", c.described, got)
		}
	}
}

func TestRegexErrors(t *testing.T) {
	for _, expr := range []string{"(", "a)|(b", `\C`, "(?=a)", strings.Repeat("a", maxRegexLength+1)} {
		if _, err := Regex(expr); err == nil {
			t.Errorf("%.20q compiles", expr)
		}
	}
}

// What Envoy 1.40 answers: each byte is a character, and only ASCII folds.
func TestRegexReadsBytes(t *testing.T) {
	for expr, want := range map[string][]string{
		".":                   {"\xe9", "\xc3", "\xa9", "\xc9"},
		"..":                  {"é", "É", "α"},
		`\x{e9}`:              {"\xe9"},
		"[é]":                 {"\xc3", "\xa9"},
		"é":                   {"é"},
		"é+":                  {"é", "é\xa9"},
		"é{2}":                {"é\xa9"},
		"(?i)É":               {"É"},
		`(?i)\x{c9}`:          {"\xc9"},
		`\pL`:                 {"\xe9", "\xc3", "\xc9"},
		`\p{Greek}`:           {},
		`[^\x{e9}]`:           {"\xc3", "\xa9", "\xc9"},
		"[à-ü]+":              {"é", "\xc3", "\xa9", "é\xa9", "éé"},
		`\W+`:                 {"é", "\xe9", "\xc3", "\xa9", "é\xa9", "\xc9", "É", "α", "\u212a", "éé"},
		"(?i)k":               {},
		"(?i)é":               {"é"},
		`(?i)\x{e9}`:          {"\xe9"},
		`(?i)[\x{e9}]`:        {"\xe9"},
		`(?i)[^\x{e9}]`:       {"\xc3", "\xa9", "\xc9"},
		`(?i)(\x{e9}|a)`:      {"\xe9"},
		`\x{e9}|\x{c9}`:       {"\xe9", "\xc9"},
		`(?i)\p{Lu}`:          {"\xc3", "\xc9"},
		`(?i)\P{Lu}`:          {"\xe9", "\xa9"},
		"(?i)\u212a":          {"\u212a"},
		"(?i:\xe9)|\u212a":    {"\xe9", "\u212a"},
		`[\x{80}-\x{ff}]+`:    {"é", "\xe9", "\xc3", "\xa9", "é\xa9", "\xc9", "É", "α", "\u212a", "éé"},
		"(?s).":               {"\xe9", "\xc3", "\xa9", "\xc9"},
		`\Qé\E`:               {"é"},
		".*\xc3\xa9.{1}|[^/]": {"\xe9", "\xc3", "\xa9", "é\xa9", "\xc9"},
	} {
		p := mustRegex(t, expr)
		for _, v := range []string{"é", "\xe9", "\xc3", "\xa9", "é\xa9", "\xc9", "É", "α", "\u212a", "éé"} {
			if got := p.Match(v); got != slices.Contains(want, v) {
				t.Errorf("%s on %q: %v", expr, v, got)
			}
		}
	}
	for _, expr := range []string{`\x{100}`, `a\x{2028}`, `[a-\x{100}]`, `\C`} {
		if p, err := Regex(expr); err == nil {
			t.Errorf("%s compiles as %v", expr, p)
		}
	}
	mustRegex(t, `\\x{100}`) // an escaped backslash
	mustRegex(t, `\Q\x{100}\E`)
}

// (?i) written out says the same of ASCII, wherever it stands.
func TestWithoutFolding(t *testing.T) {
	for expr, want := range map[string]string{
		"abc":                "abc",
		"(?i)ab":             "(?)[aA][bB]",
		"(?i:a)b":            "(?:[aA])b",
		`(?i)\Qa.\E+`:        `(?)[aA]\.+`,
		`(?i)[^\x00-y]`:      `(?)[\x{7b}-\x{ff}]`,
		"(?is-U:1)":          "(?s-U:1)",
		"((?i)1)a":           "((?)1)a",
		"(?i)(?-i)a":         "(?)(?)a",
		"(?i)(?P<ab>-)(?<c>": `(?)(?P<ab>-)(?<c>`,
	} {
		if got, err := withoutFolding(expr); err != nil || got != want {
			t.Errorf("%s: %s, %v", expr, got, err)
		}
	}
}

func FuzzWithoutFolding(f *testing.F) {
	for _, expr := range []string{
		"(?i)abc", "a(?i)b|c", "(a(?i:b(?-i)c)d)e", `(?i)\Qa.b\Ec+`, `(?i)[]a-]`, "(?i)[^]a]", `(?i)[a\]b]`, "(?i)[[:upper:]x]", "(?i)[[:^upper:]]",
		`(?i)\x41\x{42}\103`, `(?i)\pL\p{Lu}\P{^Lu}`, "(?P<name>(?i)k)s", "(?i)a{1,2}b*?", `(?i)\bA\z`, "(?i)é", "(?i)[k-s]", `(?i)\d\W`, "(?si)a.",
	} {
		f.Add(expr, "aBc")
	}
	f.Fuzz(func(t *testing.T, expr, v string) {
		expr, v = charactersOf(expr), strings.ToValidUTF8(v, "")
		plain, err := regexp.Compile(expr)
		if _, wide := wideEscape(expr); err != nil || wide || !isASCII(v) || len(expr) > 50 {
			return
		}
		written, err := withoutFolding(expr)
		if err != nil {
			t.Fatalf("%q: %v", expr, err)
		}
		re, err := regexp.Compile(written)
		if err != nil {
			if strings.Contains(err.Error(), "too large") {
				return
			}
			t.Fatalf("%q as %q: %v", expr, written, err)
		}
		if got, want := re.MatchString(v), plain.MatchString(v); got != want {
			t.Errorf("%q as %q on %q: %v, not %v", expr, written, v, got, want)
		}
	})
}

// What istiod generates, and its neighbours, run as globs; the rest as automata.
func TestGlobForms(t *testing.T) {
	for expr, want := range map[string]bool{
		".+":                     true,
		".*":                     true,
		"abc":                    true,
		"":                       true,
		".*/ns/shop/.*":          true,
		".*/ns/shop.*/.*":        true,
		"spiffe://.*/sa/x":       true,
		"a.*b.+c.*":              true,
		"(?:a|b)c":               false, // read as a character class: rare, so left alone
		"(ab|cd)e":               true,
		"spiffe://a[^/]*b/.*":    false,
		"a.b":                    false,
		".+.+":                   true,
		"(?i)abc":                false,
		"(?s).*":                 false,
		"a\\n.*":                 false,
		"\ufffd":                 true,
		"^a.*$":                  false,
		"(a|.*b)?(c|.*d)":        true,
		"(a|.*b)?(c|.*d)?(e|.*)": false, // more alternatives than maxGlobs

		"spiffe://.+/ns/bank/(.+/|)sa/teller(/.+)?": true,
	} {
		if _, got := globsOf(expr); got != want {
			t.Errorf("%q: runs as globs is %v, want %v", expr, got, want)
		}
	}
}

// FuzzRegex holds compiled expressions against the plain meaning: a full match by Go's regexp, with a character for each byte.
func FuzzRegex(f *testing.F) {
	values := []string{
		"", "a", "/ns/shop/", "x/ns/shop/sa/y", "spiffe://td/ns/bank/sa/teller", "spiffe://td/ns/bank/x/sa/teller/y",
		"spiffe:///ns/bank/sa/teller", "spiffe://td/ns/bank//sa/teller", "spiffe://td/ns/bank/sa/teller/",
		"spiffe://é/ns/bank/sa/sa/teller", "a\nb", "\xff", "é", "\xc3\xc3\xa9", "abab", "aba", "ab\xc3", "\ufffd",
	}
	for _, expr := range []string{
		".+", ".*", ".*/ns/shop/.*", "spiffe://.+/ns/bank/(.+/|)sa/teller(/.+)?", "spiffe://.*teller", "a.*b.+a",
		"(ab|.*b)?a", "é.*", ".*é", ".+é.+", "(|a).*(b|)", "a|b", "[^/]*", "(?s).*", "(.+a|)(b.*)?",
	} {
		for _, v := range values {
			f.Add(expr, v)
		}
	}
	f.Fuzz(func(t *testing.T, expr, v string) {
		p, err := Regex(expr)
		if err != nil {
			return
		}
		if strings.Contains(expr, "(?") && !isASCII(v) {
			return // Go folds more than RE2: see TestRegexReadsBytes
		}
		want := regexp.MustCompile(`\A(?:` + charactersOf(expr) + `)\z`).MatchString(charactersOf(v))
		if got := p.Match(v); got != want {
			t.Errorf("%q on %q: %v, regexp says %v", expr, v, got, want)
		}
	})
}

func TestParseInt64(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "-0": 0, "+7": 7, " 42\t": 42, "007": 7,
		"9223372036854775807": 1<<63 - 1, "-9223372036854775808": -1 << 63,
	} {
		if got, ok := parseInt64(s); !ok || got != want {
			t.Errorf("%q: %d, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "-", "+", "x", "1x", "1 2", "--1", "9223372036854775808", "-9223372036854775809", "99999999999999999999", "1_0", "0x1"} {
		if n, ok := parseInt64(s); ok {
			t.Errorf("%q is %d", s, n)
		}
	}
}

func FuzzParseInt64(f *testing.F) {
	f.Add("-12")
	f.Fuzz(func(t *testing.T, s string) {
		want, err := strconv.ParseInt(strings.Trim(s, " \t\n\v\f\r"), 10, 64)
		if got, ok := parseInt64(s); ok != (err == nil) || ok && got != want {
			t.Errorf("%q: %d, %v; strconv says %d, %v", s, got, ok, want, err)
		}
	})
}

func mustRegex(t testing.TB, expr string) Pattern {
	t.Helper()
	p, err := Regex(expr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestGlobIsTheRegex builds expressions from the pieces that globs are made of, and tries them on strings of the same
// letters, so that they match often.
func TestGlobIsTheRegex(t *testing.T) {
	pieces := []string{".*", ".+", ".*", ".+", "a", "b", "/", "é", "(.+/|)", "(/.+)?", "(ab|.*b)", "(?:)", "aé"}
	letters := []string{"a", "b", "/", "é", "ab", "\n", "\xff", "\xc3", "\xa9", "\ufffd"}
	globs, matched := 0, 0
	for seed := range uint64(rounds) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		join := func(from []string, n int) string {
			var b strings.Builder
			for range rnd.IntN(n) {
				b.WriteString(from[rnd.IntN(len(from))])
			}
			return b.String()
		}
		expr := join(pieces, 6)
		p := mustRegex(t, expr)
		if p.regex.re != nil {
			continue
		}
		globs++
		plain := regexp.MustCompile(`\A(?:` + charactersOf(expr) + `)\z`)
		for range 10 {
			v := join(letters[:5+rnd.IntN(6)], 8)
			want := plain.MatchString(charactersOf(v))
			if want {
				matched++
			}
			if got := p.Match(v); got != want {
				t.Fatalf("%q on %q: %v, regexp says %v", expr, v, got, want)
			}
		}
	}
	if globs < rounds/4 || matched < rounds/4 {
		t.Errorf("only %d globs and %d matches: the test shows little", globs, matched)
	}
}
