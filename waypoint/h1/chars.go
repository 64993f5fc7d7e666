package h1

import "encoding/binary"

// lower maps the bytes that a field name may have (RFC 9110, 5.6.2: token) to lower case, every other byte to 0.
var lower = func() (t [256]byte) {
	for c := byte('a'); c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = c, c
	}
	for c := byte('0'); c <= '9'; c++ {
		t[c] = c
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		t[c] = c
	}
	return t
}()

// inHost marks the bytes of a host name or IPv4 address: RFC 3986's unreserved and sub-delims, without the comma (two Host
// lines joined by a proxy in front) and without the percent sign (a name that two readers could decode differently).
var inHost = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
	}
	for _, c := range []byte("-._~!$&'()*+;=") {
		t[c] = true
	}
	return t
}()

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// validValue tells whether b is a legal field value: no control character but the tab (RFC 9110, 5.5; obs-text passes, as in
// Envoy). Eight bytes at a time, because most of a head is values.
func validValue(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		del := x ^ 0x7f*ones
		if ((x-0x20*ones)&^x|(del-ones)&^del)&highs != 0 && !validBytes(b[:8]) {
			return false
		}
	}
	return validBytes(b)
}

func validBytes(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// visible tells whether b is not empty and has only visible ASCII: what a request target may have.
func visible[T string | []byte](b T) bool {
	for i := 0; i < len(b); i++ {
		if b[i] <= ' ' || b[i] >= 0x7f {
			return false
		}
	}
	return len(b) > 0
}

// validName tells whether name is a field name in lower case.
func validName(name string) bool {
	for i := 0; i < len(name); i++ {
		if c := name[i]; lower[c] != c || c == 0 {
			return false
		}
	}
	return name != ""
}

// space tells whether c is optional white space.
func space(c byte) bool { return c == ' ' || c == '\t' }

// validToken is validName for any case (a method).
func validToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if lower[s[i]] == 0 {
			return false
		}
	}
	return s != ""
}
