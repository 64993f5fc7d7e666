package h2

import "sync"

// queue holds received bytes in chunks that come from pools, so that an empty queue holds nothing.
type queue struct {
	head, tail *chunk
	n          int
}

type chunk struct {
	next *chunk
	buf  []byte // the whole memory
	r, w int    // what is unread: buf[r:w]
}

// chunkSizes: a small answer, a page, a full frame. Chunks of one size are interchangeable, so the pools may be shared by all
// connections; they hold memory, no state.
var (
	chunkSizes = [...]int{1 << 10, 4 << 10, 16 << 10}
	chunkPools [len(chunkSizes)]sync.Pool
)

func newChunk(n int) *chunk {
	class := 0
	for class < len(chunkSizes)-1 && n > chunkSizes[class] {
		class++
	}
	if c, ok := chunkPools[class].Get().(*chunk); ok {
		return c
	}
	return &chunk{buf: make([]byte, chunkSizes[class])}
}

func (c *chunk) free() {
	for class, size := range chunkSizes {
		if len(c.buf) == size {
			c.next, c.r, c.w = nil, 0, 0
			chunkPools[class].Put(c)
			return
		}
	}
}

// push copies p to the end of the queue.
func (q *queue) push(p []byte) {
	q.n += len(p)
	for len(p) > 0 {
		t := q.tail
		if t == nil || t.w == len(t.buf) {
			t = newChunk(len(p))
			if q.tail == nil {
				q.head = t
			} else {
				q.tail.next = t
			}
			q.tail = t
		}
		n := copy(t.buf[t.w:], p)
		t.w += n
		p = p[n:]
	}
}

// pop copies bytes from the beginning of the queue to p.
func (q *queue) pop(p []byte) int {
	n := 0
	for n < len(p) && q.head != nil {
		h := q.head
		k := copy(p[n:], h.buf[h.r:h.w])
		h.r += k
		n += k
		if h.r < h.w {
			break
		}
		q.head = h.next
		if q.head == nil {
			q.tail = nil
		}
		h.free()
	}
	q.n -= n
	return n
}

// drop empties the queue and returns how many bytes were in it.
func (q *queue) drop() int {
	n := q.n
	for c := q.head; c != nil; {
		next := c.next
		c.free()
		c = next
	}
	*q = queue{}
	return n
}
