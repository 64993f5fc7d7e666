package h1

import (
	"bytes"
	"strings"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
)

// line is where a field stands in the head, counted from the head's first byte.
type line struct {
	name, nameEnd, value, valueEnd int
}

// parseLines checks the field lines of section b from pos up to its end, which is an empty line (found by scan), lower-cases
// their names in place and notes where each stands. size is what the first line counted already.
func parseLines(b []byte, pos int, lines []line, size int, l *limits) ([]line, error) {
	for {
		eol := bytes.IndexByte(b[pos:], '\n') + pos
		if eol <= pos || b[eol-1] != '\r' {
			return lines, bad("a line ends with LF alone")
		}
		if eol == pos+1 {
			return lines, nil
		}
		if len(lines) == l.fields {
			return lines, malformed(statusHeadersTooLarge, detailTooManyHeaders, "too many fields")
		}
		text := b[pos : eol-1]
		n := 0
		under := false
		for n < len(text) && text[n] != ':' {
			c := lower[text[n]]
			if c == 0 {
				return lines, badName(text, n)
			}
			under = under || c == '_'
			text[n] = c
			n++
		}
		if n == 0 || n == len(text) {
			return lines, bad("a field line without a name or without a colon")
		}
		value, valueEnd := pos+n+1, eol-1
		for value < valueEnd && space(b[value]) {
			value++
		}
		for value < valueEnd && space(b[valueEnd-1]) {
			valueEnd--
		}
		if !validValue(b[value:valueEnd]) {
			return lines, malformed(statusBadRequest, detailInvalidCharacters, "a control character in a field value")
		}
		if size += n + valueEnd - value; size > l.head {
			return lines, malformed(statusHeadersTooLarge, detailHeadersTooLarge, "the head is too long")
		}
		if under && l.underscores != AllowUnderscores {
			if l.underscores == RejectUnderscores {
				return lines, malformed(statusBadRequest, detailUnderscore, "an underscore in a field name")
			}
			pos = eol + 1
			continue
		}
		lines = append(lines, line{pos, pos + n, value, valueEnd})
		pos = eol + 1
	}
}

func badName(text []byte, at int) error {
	switch c := text[at]; {
	case at == 0 && space(c):
		return bad("a folded line (obs-fold)") // Envoy joins it to the line before
	case space(c):
		return bad("space in or after a field name")
	default:
		return bad("an illegal character in a field name")
	}
}

// token tells whether a comma-separated list contains name, ignoring case.
func token(list, name string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.Trim(part, " \t"), name) {
			return true
		}
	}
	return false
}

// maxNominated is how many fields Connection may name: ten are refused, as by Envoy.
const maxNominated = 10

// connection is what the Connection and Proxy-Connection lines of a head say.
type connection struct {
	close, keepAlive, upgrade bool
	nominated                 int
}

// read takes one value of Connection and removes the fields that it nominates from f. It fails where removing a field would
// change what a message means or hide where it came from; Envoy refuses x-forwarded-* and pseudo-headers, and we the
// framing fields besides.
func (c *connection) read(value string, f *header.Fields) error {
	for part := range strings.SplitSeq(value, ",") {
		name := strings.Trim(part, " \t")
		if name == "" {
			continue
		}
		if c.nominated++; c.nominated >= maxNominated {
			return malformed(statusBadRequest, detailConnectionHeader, "Connection names too many fields")
		}
		switch {
		case strings.EqualFold(name, "close"):
			c.close = true
		case strings.EqualFold(name, "keep-alive"):
			c.keepAlive = true
		case strings.EqualFold(name, "upgrade"):
			c.upgrade = true
		case strings.EqualFold(name, "te"), strings.EqualFold(name, "connection"), strings.EqualFold(name, "transfer-encoding"):
			// Consumed in any case; of TE, "trailers" passes (RFC 9110, 10.1.4; Envoy). Naming Transfer-Encoding
			// is superfluous, but some backends do it.
		default:
			if name = strings.ToLower(name); notToNominate(name) {
				return malformed(statusBadRequest, detailConnectionHeader, "Connection names "+name)
			}
			f.DelName(name)
		}
	}
	return nil
}

func notToNominate(name string) bool {
	switch name {
	case "host", "content-length", "forwarded":
		return true
	}
	return name[0] == ':' || strings.HasPrefix(name, "x-forwarded-")
}
