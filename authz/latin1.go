package authz

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Envoy 1.40 runs RE2 over Latin-1: every byte is one character, in the expression and in the value. So "." matches one byte of
// "é" and not both, [é] matches either of them, and a byte that is not UTF-8 is a character like any other. Go's regexp
// reads UTF-8. Both sides are therefore brought to characters U+0000 to U+00FF, one for each byte.

// overBytes rewrites an expression so that Go's regexp reads it as RE2 reads it in Latin-1. An error is what RE2 refuses there.
func overBytes(expr string) (string, error) {
	if escape, ok := wideEscape(expr); ok {
		return "", fmt.Errorf("%s: there is no such character: an expression reads bytes", escape)
	}
	expr = charactersOf(expr)
	if _, err := syntax.Parse(expr, syntax.Perl); err != nil {
		return "", fmt.Errorf("error parsing regexp: %w", parseError(err))
	}
	return withoutFolding(expr)
}

// parseError drops the words that regexp.Compile puts before the reason.
func parseError(err error) error {
	var e *syntax.Error
	if errors.As(err, &e) {
		return fmt.Errorf("%s: `%s`", e.Code, e.Expr)
	}
	return err
}

// charactersOf makes one character of each byte; bytesOf is the way back.
func charactersOf(s string) string {
	if isASCII(s) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

func bytesOf(s string) string {
	b := make([]byte, 0, len(s))
	for _, c := range s {
		b = append(b, byte(c)) // an expression over bytes has none above 0xff
	}
	return string(b)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// wideEscape finds an escape such as \x{100} that stands for more than a byte.
func wideEscape(expr string) (string, bool) {
	for i := 0; i+1 < len(expr); i++ {
		if expr[i] != '\\' {
			continue
		}
		i++
		if expr[i] == 'Q' { // up to \E all is literal
			end := strings.Index(expr[i:], `\E`)
			if end < 0 {
				return "", false
			}
			i += end + 1
			continue
		}
		digits, ok := strings.CutPrefix(expr[i:], "x{")
		if !ok {
			continue
		}
		if digits, _, ok = strings.Cut(digits, "}"); !ok {
			continue
		}
		if n, err := strconv.ParseUint(digits, 16, 64); err == nil && n > 0xff {
			return `\x{` + digits + "}", true
		}
	}
	return "", false
}

// matchBytes matches v byte by byte, without allocating.
func matchBytes(re *regexp.Regexp, v string) bool {
	if isASCII(v) {
		return re.MatchString(v)
	}
	r := byteReaders.Get().(*byteReader)
	defer byteReaders.Put(r)
	r.rest = v
	matched := re.MatchReader(r)
	r.rest = "" // keeps nothing of the request
	return matched
}

var byteReaders = sync.Pool{New: func() any { return new(byteReader) }}

// byteReader gives each byte as a character.
type byteReader struct{ rest string }

func (r *byteReader) ReadRune() (rune, int, error) {
	if r.rest == "" {
		return 0, 0, io.EOF
	}
	c := r.rest[0]
	r.rest = r.rest[1:]
	return rune(c), 1, nil
}
