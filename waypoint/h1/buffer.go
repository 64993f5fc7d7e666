package h1

import (
	"bytes"
	"io"
	"sync"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// bufferSize holds nearly every head whole, and a small body with it.
const bufferSize = 8 << 10

// keepSize is the largest buffer that goes back to the pool: a few long heads must not make every buffer long.
const keepSize = 16 << 10

// buffer holds bytes between the connection and the parser, or between the writer and the connection. data[pos:] is unread.
type buffer struct {
	data  []byte
	pos   int
	lines []line // of the head being parsed
}

// buffers is shared by all connections: what one does not need at the moment, another uses.
var buffers = sync.Pool{New: func() any { return &buffer{data: make([]byte, 0, bufferSize)} }}

func getBuffer() *buffer { return buffers.Get().(*buffer) }

func putBuffer(b *buffer) {
	if b == nil || cap(b.data) > keepSize {
		return
	}
	b.data, b.pos, b.lines = b.data[:0], 0, b.lines[:0]
	buffers.Put(b)
}

// unread is what has come and was not taken yet.
func (b *buffer) unread() []byte { return b.data[b.pos:] }

// room makes space for at least one more byte after the unread ones.
func (b *buffer) room() {
	if len(b.data) < cap(b.data) {
		return
	}
	if b.pos > 0 {
		b.data, b.pos = b.data[:copy(b.data, b.data[b.pos:])], 0
		return
	}
	b.data = append(make([]byte, 0, 2*cap(b.data)), b.data...)
}

// fill waits for more bytes from c.
func (b *buffer) fill(c message.Conn) error {
	b.room()
	n, err := readSome(c, b.data[len(b.data):cap(b.data)])
	b.data = b.data[:len(b.data)+n]
	return err
}

// readSome reads at least one byte or returns an error. An error that comes with bytes will come again without them.
func readSome(c message.Conn, p []byte) (int, error) {
	for range 100 {
		n, err := c.Read(p)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// scan finds the empty line that ends a head or a trailer section, looking at each byte once however the bytes arrive.
// seen is where it stopped last time. It fails on the first LF without CR: such a section may never end otherwise.
func scan(b []byte, seen *int) (end int, bareLF bool) {
	for i := *seen; ; {
		k := bytes.IndexByte(b[i:], '\n')
		if k < 0 {
			*seen = len(b)
			return 0, false
		}
		i += k
		if i == 0 || b[i-1] != '\r' {
			return 0, true
		}
		if i == 1 || i >= 3 && b[i-2] == '\n' {
			return i + 1, false
		}
		i++
	}
}
