package pathnorm

import "slices"

// What becomes of a byte of a path. The classes are those of the URL library that Envoy uses (the WHATWG URL standard's path
// state, with unreserved characters decoded).
type class uint8

const (
	pass    class = iota // kept; if it was escaped it stays escaped
	encode               // written as %XX; if it was escaped it stays escaped
	decode               // unreserved: kept, and an escaped one is decoded
	special              // "." and the slashes
	invalid              // NUL: the path is refused, escaped or not
)

var classes = func() (t [256]class) {
	for c := range t {
		if c < 0x21 || c > 0x7e {
			t[c] = encode
		}
	}
	for _, c := range []byte("\"#<>?\\^`{|}%") {
		t[c] = encode
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = decode
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = decode, decode
	}
	for _, c := range []byte("-_~") {
		t[c] = decode
	}
	t['.'] = special
	t[0] = invalid
	return t
}()

// isNormal is a quick check that canonicalize would change nothing: true only if it is certain.
func isNormal(path string) bool {
	if path[0] != '/' {
		return false
	}
	for i := 0; i < len(path); i++ {
		switch classes[path[i]] {
		case encode, invalid: // "%" is among them
			return false
		case special:
			if path[i-1] == '/' { // may be a dot segment; a name that only begins with a dot takes the slow way too
				return false
			}
		}
	}
	return true
}

// canonicalize is RFC 3986, 5.2.4 and 6.2.2 as browsers do it.
func canonicalize(path string) (string, bool) {
	out := make([]byte, 0, len(path)+8)
	ok := true
	stray := -1 // where in out the last "%" is that begins no escape
	if path[0] != '/' && path[0] != '\\' {
		out = append(out, '/')
	}
	for i := 0; i < len(path); {
		c := path[i]
		switch {
		case c == '/' || c == '\\':
			out = append(out, '/')
			i++

		case len(out) > 0 && out[len(out)-1] == '/' && dotLen(path[i:]) > 0:
			// A segment that begins with a dot, or an escaped one.
			rest := path[i:]
			one := dotLen(rest)
			two := dotLen(rest[one:])
			switch {
			case ends(rest[one:]): // "." at the end or before a slash: gone, with its slash
				i += one
				if i < len(path) {
					i++
				}
			case two > 0 && ends(rest[one+two:]): // "..": so is the segment before it
				if out = out[:parent(out)]; stray >= len(out) {
					stray = -1
				}
				i += one + two
				if i < len(path) {
					i++
				}
			default: // a name that begins with a dot
				out = append(out, '.')
				i += one
			}

		case c == '%':
			v, valid := byte(0), false
			if i+2 < len(path) {
				v, valid = unhex(path[i+1], path[i+2])
			}
			switch {
			case !valid:
				stray = len(out)
				out = append(out, '%')
				i++
			case classes[v] == decode || classes[v] == special:
				out = append(out, v)
				i += 3
				out = separate(out, stray, path[i:])
			default:
				ok = ok && classes[v] != invalid
				out = append(out, path[i:i+3]...)
				i += 3
			}

		case classes[c] == encode || classes[c] == invalid:
			ok = ok && classes[c] != invalid
			const hex = "0123456789ABCDEF"
			out = append(out, '%', hex[c>>4], hex[c&15])
			i++

		default:
			out = append(out, c)
			i++
		}
	}
	return string(out), ok
}

// separate keeps a stray "%" from becoming the beginning of an escape by what was decoded behind it: of "%%34e" it makes
// "%254e", not "%4e". rest is the input that follows.
func separate(out []byte, stray int, rest string) []byte {
	if stray < 0 || stray < len(out)-3 {
		return out
	}
	digits := string(out[stray+1:])
	if len(digits) == 1 && rest != "" {
		digits += rest[:1]
	}
	if len(digits) != 2 {
		return out
	}
	if _, escape := unhex(digits[0], digits[1]); !escape {
		return out
	}
	return slices.Insert(out, stray+1, '2', '5')
}

// dotLen is the length of a leading "." or "%2e".
func dotLen(s string) int {
	switch {
	case s != "" && s[0] == '.':
		return 1
	case len(s) >= 3 && s[0] == '%' && s[1] == '2' && s[2]|0x20 == 'e':
		return 3
	}
	return 0
}

func ends(s string) bool { return s == "" || s[0] == '/' || s[0] == '\\' }

// parent is the length of out without its last segment; out ends with a slash, and the root has no parent but itself.
func parent(out []byte) int {
	i := len(out) - 1
	for i > 0 && out[i-1] != '/' {
		i--
	}
	return max(i, 1)
}

func unhex(a, b byte) (byte, bool) {
	x, okA := hexDigit(a)
	y, okB := hexDigit(b)
	return x<<4 | y, okA && okB
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}
