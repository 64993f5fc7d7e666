package authz

import "strings"

// header tests a header that may have been sent any number of times.
func (e *evaluation) header(h *Header, r reading) bool {
	first, ok := e.request.header(h.Name, 0)
	if h.Test == HeaderPresent {
		there := ok || h.MissingIsEmpty
		return (there == h.Present) != h.Invert
	}
	if !ok {
		// first is "" then
		return h.MissingIsEmpty && h.value(first, r)
	}
	if h.single {
		return h.value(first, r)
	}
	if _, more := e.request.header(h.Name, 1); !more {
		return h.value(first, r)
	}

	lines, joined := e.linesOf(h.Name)
	if r == certainly {
		for _, v := range lines {
			if !h.value(v, r) {
				return false
			}
		}
		return !h.Joined && !h.oneLine || h.value(joined, r)
	}
	for _, v := range lines {
		if h.value(v, r) {
			return true
		}
	}
	return h.value(joined, r)
}

// value tests one value.
func (h *Header) value(v string, r reading) bool {
	if h.Invert {
		return !h.test(v, r.opposite())
	}
	return h.test(v, r)
}

func (h *Header) test(v string, r reading) bool {
	if h.Test == HeaderInRange {
		n, ok := parseInt64(v)
		return ok && h.From <= n && n < h.To
	}
	return h.Pattern.match(v, r)
}

// parseInt64 reads a decimal integer as Envoy's range match does: with an optional sign, and white space around it.
// Unlike strconv.ParseInt it does not allocate an error for each header that holds none.
func parseInt64(s string) (int64, bool) {
	s = strings.Trim(s, " \t\n\v\f\r")
	negative := false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		negative, s = s[0] == '-', s[1:]
	}
	if s == "" {
		return 0, false
	}
	const limit = 1 << 63 // the magnitude of the least int64
	var n uint64
	for i := range len(s) {
		digit := uint64(s[i] - '0')
		if digit > 9 || n > (limit-digit)/10 {
			return 0, false
		}
		n = n*10 + digit
	}
	switch {
	case negative:
		return int64(-n), true // wraps to the right value, -1<<63 included
	case n == limit:
		return 0, false
	}
	return int64(n), true
}
