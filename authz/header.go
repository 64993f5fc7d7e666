package authz

import (
	"strings"
	"unsafe"
)

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
	second, more := e.request.header(h.Name, 1)
	if !more {
		return h.value(first, r)
	}

	if r == certainly {
		for i, v := 1, second; more; v, more = e.request.header(h.Name, i) {
			if !h.value(v, r) {
				return false
			}
			i++
		}
		return h.value(first, r) && (!h.Joined && !h.oneLine || e.joined(h, r))
	}
	for i, v := 1, second; more; v, more = e.request.header(h.Name, i) {
		if h.value(v, r) {
			return true
		}
		i++
	}
	return h.value(first, r) || e.joined(h, r)
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

// joined tests the values joined with commas, which is what a backend that reads them as one list gets. On the line of a
// [OneLine] header Envoy leaves out empty values, with their commas.
func (e *evaluation) joined(h *Header, r reading) bool {
	buf := e.joins.Get().(*[]byte)
	defer e.joins.Put(buf)
	b := (*buf)[:0]
	for i := 0; ; i++ {
		v, ok := e.request.header(h.Name, i)
		if !ok {
			break
		}
		b = appendLine(b, 0, i, v, h.oneLine)
	}
	*buf = b
	// No copy: the test does not keep the string, and the buffer is not written until it goes back to the pool.
	return h.value(unsafe.String(unsafe.SliceData(b), len(b)), r)
}

// appendLine appends the i-th line of a header to those joined so far, which begin at b[from].
func appendLine(b []byte, from, i int, line string, oneLine bool) []byte {
	comma := i > 0
	if oneLine {
		comma = len(b) > from && line != ""
	}
	if comma {
		b = append(b, ',')
	}
	return append(b, line...)
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
