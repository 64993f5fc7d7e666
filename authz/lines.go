package authz

import (
	"sync"
	"unsafe"
)

// lines has the headers that a request holds on several lines, each read once: of ten thousand policies each may ask for the same
// header, and a front end may have to go through all that the client sent to find one line. Reused from request to request.
type lines struct {
	headers []severalLines
	values  []string // of all these headers
	joined  []byte   // likewise
}

// severalLines is one header: its lines, and its lines joined with commas.
type severalLines struct {
	name                 string
	from, to             int // in lines.values
	joinedFrom, joinedTo int // in lines.joined
}

// linesOf returns the lines of a header that has several, and what a backend gets that reads them as one list. Both are good until
// the evaluation ends.
func (e *evaluation) linesOf(name string) (values []string, joined string) {
	if e.lines == nil {
		e.lines = e.set.lines.Get().(*lines)
	}
	l := e.lines
	for i := range l.headers {
		if l.headers[i].name == name {
			return l.of(&l.headers[i])
		}
	}
	h := severalLines{name: name, from: len(l.values), joinedFrom: len(l.joined)}
	onOne := OneLine(name)
	for i := 0; ; i++ {
		line, ok := e.request.header(name, i)
		if !ok {
			break
		}
		l.values = append(l.values, line)
		l.joined = appendLine(l.joined, h.joinedFrom, i, line, onOne)
	}
	h.to, h.joinedTo = len(l.values), len(l.joined)
	l.headers = append(l.headers, h)
	return l.of(&h)
}

func (l *lines) of(h *severalLines) (values []string, joined string) {
	b := l.joined[h.joinedFrom:h.joinedTo]
	// No copy: the bytes are not written again before release, after which nobody has the string.
	return l.values[h.from:h.to], unsafe.String(unsafe.SliceData(b), len(b))
}

// appendLine appends the i-th line of a header to those joined so far, which begin at b[from]. On the line of a [OneLine] header
// Envoy leaves out empty values, with their commas.
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

// release ends the evaluation and forgets the request.
func (e *evaluation) release() {
	if e.lines != nil {
		e.lines.release(&e.set.lines)
	}
}

func (l *lines) release(to *sync.Pool) {
	if cap(l.values) > maxKept || cap(l.joined) > maxKept {
		return
	}
	clear(l.headers)
	clear(l.values)
	l.headers, l.values, l.joined = l.headers[:0], l.values[:0], l.joined[:0]
	to.Put(l)
}
