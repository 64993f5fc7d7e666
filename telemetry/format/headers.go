package format

import (
	"errors"
	"fmt"
	"strings"
)

// header makes an operator for "NAME" or "NAME?ALTERNATIVE". A header that is there but empty prints as empty text, not as
// absent: that is what Envoy does.
func header(p part, get func(*record, string) (string, bool)) (operator, error) {
	names := strings.Split(strings.ToLower(p.arg), "?")
	if !p.hasArg || names[0] == "" {
		return nil, errors.New("needs the name of a header in parentheses")
	}
	if len(names) > 2 {
		return nil, fmt.Errorf("argument %q: only one alternative header is possible", p.arg)
	}
	if strings.ContainsAny(p.arg, "\r\n\x00") {
		return nil, errors.New("a header name has no line breaks")
	}
	name, alt := names[0], ""
	if len(names) == 2 {
		alt = names[1]
	}
	return func(dst []byte, r *record) ([]byte, kind) {
		v, ok := get(r, name)
		if !ok && alt != "" {
			v, ok = get(r, alt)
		}
		if !ok {
			return dst, absent
		}
		return append(dst, v...), text
	}, nil
}
