package h2

import (
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

// outputBound is how many bytes may wait before streams have to. As many again may be in the transport's Write at that time,
// which makes 256 KiB for a connection.
const outputBound = 128 << 10

// output is the sending half of a connection: frames that wait for the writer, and all that decides who may add some.
type output struct {
	mu  sync.Mutex
	buf *outputBuffer // nil when empty: an idle connection holds none
	gen uint64        // counts buffers, so that a stream knows whether its last frame is still in this one

	usual    int   // bytes of the last batches
	controls int   // control frames in buf
	window   int64 // the connection's sending window
	waiting  int   // streams that wait in space

	peerWindow   int64 // SETTINGS_INITIAL_WINDOW_SIZE of the peer
	peerMaxFrame int
	peerConnect  bool // the peer takes extended CONNECT

	enc headEncoder

	sleeping bool      // the writer waits in wake
	wake     sync.Cond // for the writer: there is something to do
	space    sync.Cond // for streams with data: room in buf and window
	heads    sync.Cond // for streams with a head: room in buf
	closing  bool      // write what is there, then stop
	err      error     // nothing can be written any more

	dataFrames atomic.Int64 // sent since the reader looked
	full       atomic.Bool  // buf has reached outputBound
}

type outputBuffer struct{ b []byte }

// largestData is the longest DATA frame that is sent to a peer that takes longer ones: what a copy of a body writes at once.
const largestData = 32 << 10

// outputSizes: a few heads, the answers of a batch, a busy connection, and all that a body's writer may queue: outputBound and
// the frame that goes beyond it. A buffer grows by moving into the next size, so that the memory of either is used again.
// The pools may be shared by all connections; they hold memory, no state.
var (
	outputSizes = [...]int{4 << 10, 16 << 10, 64 << 10, outputBound + largestData + 4<<10}
	outputPools [len(outputSizes)]sync.Pool
)

// newOutputBuffer returns an empty buffer for n bytes, as far as there are buffers of that size.
func newOutputBuffer(n int) *outputBuffer {
	class := 0
	for class < len(outputSizes)-1 && n > outputSizes[class] {
		class++
	}
	if b, ok := outputPools[class].Get().(*outputBuffer); ok {
		return b
	}
	return &outputBuffer{b: make([]byte, 0, outputSizes[class])}
}

func freeOutputBuffer(b *outputBuffer) {
	for class, size := range outputSizes {
		if cap(b.b) == size {
			b.b = b.b[:0]
			outputPools[class].Put(b)
			return
		}
	}
}

func (o *output) init() {
	o.wake.L, o.space.L, o.heads.L = &o.mu, &o.mu, &o.mu
	o.window, o.peerWindow, o.peerMaxFrame = defaultWindow, defaultWindow, defaultMaxFrameSize
	o.enc.init(o)
}

// pending returns the buffer that frames are appended to. Callers hold mu.
func (o *output) pending() *outputBuffer {
	if o.buf == nil {
		o.buf = newOutputBuffer(o.usual)
	}
	return o.buf
}

// reserve makes room for n more bytes in the pending buffer. Callers hold mu. Whoever appends a little may do without: append
// finds memory by itself.
func (o *output) reserve(n int) {
	b := o.pending()
	if len(b.b)+n <= cap(b.b) {
		return
	}
	larger := newOutputBuffer(len(b.b) + n)
	if len(b.b)+n > cap(larger.b) {
		return // beyond all sizes: a head of many fields
	}
	larger.b = append(larger.b, b.b...)
	o.buf = larger
	freeOutputBuffer(b)
}

// wroteBatch notes how much one Write took, so that the next buffer has the right size at once; it forgets slowly, since batches
// differ.
func (o *output) wroteBatch(n int) { o.usual = max(n, o.usual-o.usual/8) }

// Write is where the HPACK encoder puts its bytes.
func (o *output) Write(p []byte) (int, error) {
	b := o.pending()
	b.b = append(b.b, p...)
	return len(p), nil
}

// room tells whether streams may append.
func (o *output) room() bool { return o.buf == nil || len(o.buf.b) < outputBound }

// dirty wakes the writer. Callers hold mu and have appended something.
func (o *output) dirty() {
	if o.sleeping {
		o.sleeping = false
		o.wake.Signal()
	}
	if !o.room() {
		o.full.Store(true)
	}
}

// wait blocks a stream until there may be room or window, or something else has changed. Whoever returns from it and leaves
// room passes the signal on (passOn), so that one event wakes as many as it can serve and no more.
func (o *output) wait() {
	o.waiting++
	o.space.Wait()
	o.waiting--
}

func (o *output) passOn() {
	if o.waiting > 0 && o.window > 0 && o.room() {
		o.space.Signal()
	}
}

// control appends a control frame. It never waits; limit bounds how many may lie there.
func (o *output) control(limit int, add func(b []byte) []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil || o.closing {
		return true
	}
	if o.controls >= limit {
		return false
	}
	o.controls++
	b := o.pending()
	b.b = add(b.b)
	o.dirty()
	return true
}

var errWriterClosed = errors.New("h2: the connection's output is closed")

// run is the writer goroutine. It returns when the output is closed and written, or when the transport fails.
func (o *output) run(w io.Writer, wrote *atomic.Int64, drained func()) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for o.buf == nil {
			if o.closing {
				o.err = errWriterClosed
				return nil
			}
			o.sleeping = true
			o.wake.Wait()
			o.sleeping = false
		}
		o.mu.Unlock()
		runtime.Gosched() // every stream that the reader has just woken adds its frames first
		o.mu.Lock()

		buf := o.buf
		o.buf, o.controls = nil, 0
		o.gen++
		o.passOn()
		o.heads.Broadcast()
		wasFull := o.full.Swap(false)
		o.mu.Unlock()
		if wasFull {
			drained()
		}
		size := len(buf.b)
		n, err := w.Write(buf.b)
		wrote.Add(int64(n))
		freeOutputBuffer(buf)
		o.mu.Lock()
		o.wroteBatch(size)
		if err != nil {
			o.err = err
			return err
		}
	}
}

// close lets the writer stop when it has written what is there; last is appended to that.
func (o *output) close(last func(b []byte) []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing || o.err != nil {
		return
	}
	if last != nil {
		b := o.pending()
		b.b = last(b.b)
	}
	o.closing = true
	o.wake.Signal()
	o.space.Broadcast()
	o.heads.Broadcast()
}
