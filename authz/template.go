package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Template is a URI path template, as envoy.extensions.path.match.uri_template.v3: literal segments, "*" for one
// segment of at least one character, "**" for any rest, segments included. "{name=*}" and "{name}" are "*" under a
// name, which matters only to rewriting. It is immutable.
//
// The wildcards match only the characters that RFC 3986 allows in a path segment: that is what Envoy does, so an allow by
// template does not admit /a|b, and a deny by template does not see it, where the listener does not normalise paths.
type Template struct {
	text string
	// head is matched from the front: literals (which hold their slashes) and "*". rest says that "**" follows it,
	// and tail, all literal, ends the path.
	head []string
	rest bool
	tail string
}

const (
	oneSegment     = "*"
	manySegments   = "**"
	maxVariables   = 5  // as Envoy
	maxVariableLen = 16 // as Envoy
)

// Match reports whether the path, without query and fragment, has the form of the template.
func (t *Template) Match(path string) bool {
	path, ok := strings.CutSuffix(path, t.tail)
	if !ok {
		return false
	}
	for _, part := range t.head {
		if part != oneSegment {
			if path, ok = strings.CutPrefix(path, part); !ok {
				return false
			}
			continue
		}
		n := segmentLen(path)
		if n == 0 {
			return false
		}
		path = path[n:]
	}
	if !t.rest {
		return path == ""
	}
	for path != "" {
		if path[0] != '/' && !segmentByte(path[0]) {
			return false
		}
		path = path[1:]
	}
	return true
}

// String returns the template as written.
func (t *Template) String() string { return t.text }

// segmentLen is the length of the longest run of characters that "*" matches.
func segmentLen(s string) int {
	for i := range len(s) {
		if !segmentByte(s[i]) {
			return i
		}
	}
	return len(s)
}

func segmentByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-._~%!$&'()*+,;:@=", c) >= 0
}

// ParseTemplate reads a template. Its limits are Envoy's: at most five variables, a wildcard is a whole segment except
// that a literal may end the last one ("/*.html"), and no wildcard follows "**".
func ParseTemplate(text string) (Template, error) {
	fail := func(format string, args ...any) (Template, error) {
		return Template{}, fmt.Errorf("path template %q: "+format, append([]any{text}, args...)...)
	}
	rest, ok := strings.CutPrefix(text, "/")
	if !ok {
		return fail("must begin with /")
	}
	parts := []string{"/"} // literals and wildcards in order
	var names []string
	for rest != "" {
		var segment []string
		var err error
		switch rest[0] {
		case '*':
			segment, rest = takeWildcard(rest)
		case '{':
			var name string
			if name, segment, rest, err = takeVariable(rest); err != nil {
				return fail("%w", err)
			}
			if slices.Contains(names, name) {
				return fail("variable %q is repeated", name)
			}
			if names = append(names, name); len(names) > maxVariables {
				return fail("more than %d variables", maxVariables)
			}
		default:
			if segment, rest, err = takeLiteral(rest); err != nil {
				return fail("%w", err)
			}
		}
		parts = append(parts, segment...)
		if after, slash := strings.CutPrefix(rest, "/"); slash {
			parts, rest = append(parts, "/"), after
			continue
		}
		if rest != "" { // a literal that ends the last segment
			if segment, rest, err = takeLiteral(rest); err != nil {
				return fail("%w", err)
			}
			if rest != "" {
				return fail("only literal text may follow %q, up to the end", segment[0])
			}
			parts = append(parts, segment...)
		}
	}
	return newTemplate(text, parts)
}

// newTemplate orders the parts for matching from both ends.
func newTemplate(text string, parts []string) (Template, error) {
	t := Template{text: text}
	parts = joinLiterals(parts)
	if at := slices.Index(parts, manySegments); at >= 0 {
		t.rest = true
		for _, part := range parts[at+1:] {
			if part == oneSegment || part == manySegments {
				return Template{}, fmt.Errorf("path template %q: a wildcard follows **", text)
			}
			t.tail += part
		}
		t.head = parts[:at]
		return t, nil
	}
	t.head = parts
	// A literal right after the last wildcard would otherwise be eaten by it: /*.html
	if at := slices.Index(parts, oneSegment); at >= 0 {
		for i := len(parts) - 1; parts[i] != oneSegment; i-- {
			t.tail = parts[i] + t.tail
			t.head = parts[:i]
		}
	}
	return t, nil
}

func joinLiterals(parts []string) []string {
	joined := parts[:1] // the leading slash
	for _, part := range parts[1:] {
		last := len(joined) - 1
		if part[0] == '*' || joined[last][0] == '*' {
			joined = append(joined, part)
		} else {
			joined[last] += part
		}
	}
	return joined
}

func takeWildcard(s string) (segment []string, rest string) {
	if rest, ok := strings.CutPrefix(s, manySegments); ok {
		return []string{manySegments}, rest
	}
	return []string{oneSegment}, s[1:]
}

func takeLiteral(s string) (segment []string, rest string, err error) {
	n := segmentLen(s)
	if n == 0 || n < len(s) && s[n] != '/' {
		return nil, "", fmt.Errorf("%q is not allowed in a literal", s[n:n+1])
	}
	if s[0] == '*' { // after a wildcard; Envoy takes it, and means the character
		return nil, "", errors.New("a literal cannot begin with *")
	}
	return []string{s[:n]}, s[n:], nil
}

func takeVariable(s string) (name string, segment []string, rest string, err error) {
	body, rest, ok := strings.Cut(s[1:], "}")
	if !ok {
		return "", nil, "", errors.New("{ without }")
	}
	name, form, explicit := strings.Cut(body, "=")
	if !variableName(name) {
		return "", nil, "", fmt.Errorf("variable name %q: want a letter, then letters, digits or _, up to %d in all", name, maxVariableLen)
	}
	if !explicit {
		return name, []string{oneSegment}, rest, nil
	}
	if form == "" || strings.HasSuffix(form, "/") {
		return "", nil, "", fmt.Errorf("variable %q: incomplete form %q", name, form)
	}
	for form != "" {
		var part []string
		if form[0] == '*' {
			part, form = takeWildcard(form)
		} else if part, form, err = takeLiteral(form); err != nil {
			return "", nil, "", err
		}
		segment = append(segment, part...)
		if form != "" {
			if form, ok = strings.CutPrefix(form, "/"); !ok {
				return "", nil, "", fmt.Errorf("variable %q: a wildcard must be a whole segment", name)
			}
			segment = append(segment, "/")
		}
	}
	return name, segment, rest, nil
}

func variableName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return 1 <= len(s) && len(s) <= maxVariableLen
}
