package authz

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// RE2 in Latin-1 compares only ASCII letters without case under (?i): neither é with É nor, in UTF-8, the first byte of 日 with that
// of ¥. Go's regexp compares all that Unicode says, and which of the two a parsed expression had, cannot be told. So (?i) is
// written out before parsing: each letter and each class that it is about becomes the class of all bytes that match it.

// withoutFolding writes (?i) out in an expression that Go's regexp takes. One without (?i) is returned as it is.
func withoutFolding(expr string) (string, error) {
	f := folding{rest: expr}
	for f.rest != "" {
		if err := f.next(); err != nil {
			return "", err
		}
	}
	if !f.found {
		return expr, nil
	}
	return f.out.String(), nil
}

// folding goes through an expression piece by piece. The pieces are those of regexp/syntax.
type folding struct {
	rest  string
	out   strings.Builder
	fold  bool   // (?i) is in force
	outer []bool // for each open group, whether it was before
	found bool   // there was one
}

func (f *folding) next() error {
	switch s := f.rest; {
	case strings.HasPrefix(s, `\Q`):
		return f.quoted()
	case s[0] == '\\':
		n := escapeLen(s)
		if strings.IndexByte("AbBzC", s[1]) >= 0 { // no characters
			f.take(n)
			return nil
		}
		return f.leaf(n)
	case s[0] == '[':
		return f.leaf(classLen(s))
	case s[0] == '(':
		f.open()
	case s[0] == ')':
		if last := len(f.outer) - 1; last >= 0 {
			f.fold, f.outer = f.outer[last], f.outer[:last]
		}
		f.take(1)
	case 'a' <= s[0]|0x20 && s[0]|0x20 <= 'z':
		return f.leaf(1)
	default:
		_, n := utf8.DecodeRuneInString(s)
		f.take(n)
	}
	return nil
}

// take copies n bytes.
func (f *folding) take(n int) {
	f.out.WriteString(f.rest[:n])
	f.rest = f.rest[n:]
}

// leaf copies what stands for one character, a letter if n is 1, or writes out which that are.
func (f *folding) leaf(n int) error {
	if !f.fold {
		f.take(n)
		return nil
	}
	if n == 1 { // the usual case
		c := f.rest[0]
		f.out.WriteString("[" + string([]byte{c, c ^ 0x20}) + "]")
		f.rest = f.rest[1:]
		return nil
	}
	class, err := foldedClass(f.rest[:n])
	f.out.WriteString(class)
	f.rest = f.rest[n:]
	return err
}

// quoted reads \Q…\E, in which everything is literal.
func (f *folding) quoted() error {
	text, rest, _ := strings.Cut(f.rest[2:], `\E`)
	for _, c := range text {
		if f.rest = regexp.QuoteMeta(string(c)); f.rest == string(c) {
			if err := f.next(); err != nil {
				return err
			}
		} else {
			f.take(len(f.rest))
		}
	}
	f.rest = rest
	return nil
}

// open reads the beginning of a group, or flags for the rest of one: (?is) and (?i-s:.
func (f *folding) open() {
	if strings.HasPrefix(f.rest, "(?P<") || strings.HasPrefix(f.rest, "(?<") {
		f.outer = append(f.outer, f.fold)
		f.take(strings.IndexByte(f.rest, '>') + 1)
		return
	}
	flags, isFlags := strings.CutPrefix(f.rest, "(?")
	n := strings.IndexAny(flags, ":)")
	if !isFlags || n < 0 || strings.Trim(flags[:n], "imsU-") != "" { // a plain group
		f.outer = append(f.outer, f.fold)
		f.take(1)
		return
	}
	on, off, _ := strings.Cut(flags[:n], "-")
	if flags[n] == ':' {
		f.outer = append(f.outer, f.fold)
	}
	switch {
	case strings.Contains(off, "i"):
		f.fold = false
	case strings.Contains(on, "i"):
		f.fold, f.found = true, true
	}
	f.out.WriteString("(?" + strings.ReplaceAll(on, "i", ""))
	if off = strings.ReplaceAll(off, "i", ""); off != "" {
		f.out.WriteString("-" + off)
	}
	f.out.WriteByte(flags[n])
	f.rest = flags[n+1:]
}

// escapeLen is the length of the escape that s begins with.
func escapeLen(s string) int {
	switch c := s[1]; {
	case (c == 'x' || c == 'p' || c == 'P') && len(s) > 2 && s[2] == '{':
		return strings.IndexByte(s, '}') + 1
	case c == 'x':
		return 4
	case c == 'p' || c == 'P':
		return 3
	case '0' <= c && c <= '7':
		n := 2
		for n < min(len(s), 4) && '0' <= s[n] && s[n] <= '7' {
			n++
		}
		return n
	}
	_, n := utf8.DecodeRuneInString(s[1:])
	return 1 + n
}

// classLen is the length of the class in brackets that s begins with.
func classLen(s string) int {
	n := 1
	if strings.HasPrefix(s[n:], "^") {
		n++
	}
	if strings.HasPrefix(s[n:], "]") { // the first is a character
		n++
	}
	for s[n] != ']' {
		switch {
		case s[n] == '\\':
			n += escapeLen(s[n:])
		case strings.HasPrefix(s[n:], "[:") && strings.Contains(s[n+2:], ":]"):
			n += 2 + strings.Index(s[n+2:], ":]") + 2
		default:
			n++
		}
	}
	return n + 1
}

// foldedClass is the class of all bytes that a character or a class matches under (?i). Among ASCII Go's folding is RE2's.
func foldedClass(one string) (string, error) {
	ascii, err := regexp.Compile(`\A(?i:` + one + `)\z`)
	if err != nil {
		return "", err
	}
	other, err := regexp.Compile(`\A(?:` + one + `)\z`)
	if err != nil {
		return "", err
	}
	matches := func(c int) bool {
		if c < utf8.RuneSelf {
			return ascii.MatchString(string(rune(c)))
		}
		return c <= 0xff && other.MatchString(string(rune(c)))
	}
	var b strings.Builder
	for c := 0; c <= 0xff; c++ {
		if !matches(c) {
			continue
		}
		from := c
		for matches(c + 1) {
			c++
		}
		fmt.Fprintf(&b, `\x{%x}-\x{%x}`, from, c)
	}
	if b.Len() == 0 {
		return `[^\x{0}-\x{10ffff}]`, nil
	}
	return "[" + b.String() + "]", nil
}
