package exchange

import (
	"io"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// replayLimit is how much of a request's body is kept for another attempt. Larger requests are sent once. Envoy keeps up to
// its connection buffer, 1 MiB; ours is what fits the memory bound with thousands of requests under way.
const replayLimit = 64 << 10

// copySize is a copy's buffer while much is moving: two TLS records.
const copySize = 32 << 10

// lateBody is how long a client may take to finish a request that has been answered already, before an HTTP/1.1 connection is
// closed under it; Envoy's delayed_close_timeout.
const lateBody = time.Second

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copySize); return &b }}

// requestBody carries the request's body from the client to the attempt in progress.
//
// When the whole body is there already it is sent by the request's own goroutine. Otherwise a goroutine of its own, the pump,
// reads from the client and writes to sink, until the client's end; it outlives an attempt, but sends to one only.
type requestBody struct {
	e *exchange

	none bool // the request ended with its head
	// Kept for another attempt: everything read so far, unless it was too much.
	kept     []byte
	tooLong  bool
	complete bool // all of the body has been read
	trailer  *header.Fields
	pumped   bool // the pump was started
	done     chan struct{}

	mu     sync.Mutex
	sink   message.Stream     // where the pump writes; nil: nowhere
	broken *message.Malformed // the client broke the rules in its body
}

func (b *requestBody) begin(e *exchange, end bool) {
	b.e, b.none = e, end
}

func (b *requestBody) release() {
	b.e, b.none, b.tooLong, b.complete, b.trailer, b.pumped, b.done, b.sink, b.broken = nil, false, false, false, nil, false, nil, nil, nil
	if cap(b.kept) > copySize {
		b.kept = nil
	}
	b.kept = b.kept[:0]
}

func (b *requestBody) empty() bool { return b.none }

// replayable tells whether the request can be sent again.
func (b *requestBody) replayable() bool {
	if b.none || !b.pumped && !b.complete {
		return true
	}
	if b.pumped {
		select {
		case <-b.done:
		default:
			return false
		}
	}
	return b.complete && !b.tooLong
}

// send sends what there is of the body to a new attempt.
func (b *requestBody) send(up message.Stream) error {
	e := b.e
	if !b.complete {
		if !b.collect() {
			// The head goes first: from here on the pump is the stream's writer.
			err := up.Flush()
			b.start(up)
			return err
		}
	}
	if len(b.kept) > 0 {
		if _, err := up.Write(b.kept); err != nil {
			return err
		}
	}
	e.requestComplete()
	return up.CloseWrite(b.trailer)
}

// collect reads a body that is there completely, without waiting; false if it is not.
func (b *requestBody) collect() bool {
	if b.none || b.complete {
		return true
	}
	if n, all := b.e.down.Buffered(); !all || n > replayLimit {
		return false
	}
	return b.readAll() == nil
}

// readAll takes a body that is there completely.
func (b *requestBody) readAll() error {
	for {
		if len(b.kept) == cap(b.kept) {
			b.kept = append(b.kept, 0)[:len(b.kept)]
		}
		n, err := b.e.down.Read(b.kept[len(b.kept):cap(b.kept)])
		b.took(b.kept[len(b.kept) : len(b.kept)+n])
		b.kept = b.kept[:len(b.kept)+n]
		if err == io.EOF {
			b.complete, b.trailer = true, b.e.down.Trailer()
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (b *requestBody) took(p []byte) {
	e := b.e
	e.rec.BytesReceived += uint64(len(p))
	for _, f := range e.bodies {
		f.RequestData(&e.x, p)
	}
}

func (b *requestBody) start(up message.Stream) {
	b.sink, b.pumped, b.done = up, true, make(chan struct{})
	go b.pump()
}

func (b *requestBody) pump() {
	defer close(b.done)
	e := b.e
	defer func() {
		if p := recover(); p != nil { // of a filter that looks at bodies: it must not end the process, nor pass for a whole body
			e.env.Logger.Error("a filter panicked on a request's body", "panic", p, "stack", string(debug.Stack()))
			e.down.Reset(message.InternalError)
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.sink != nil {
				b.sink.Reset(message.InternalError)
				b.sink = nil
			}
		}
	}()
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	keep := e.req.Upgrade == ""
	for {
		n, err := e.down.Read(*buf)
		p := (*buf)[:n]
		if n > 0 {
			b.took(p)
			e.touch()
			if keep && len(b.kept)+n <= replayLimit {
				b.kept = append(b.kept, p...)
			} else {
				b.tooLong, keep, b.kept = true, false, b.kept[:0]
			}
		}
		switch {
		case err == io.EOF:
			b.complete, b.trailer = true, e.down.Trailer()
			e.requestComplete()
			b.write(p, true)
			return
		case err != nil: // the client gave up, or broke the rules in mid-body
			b.mu.Lock()
			b.broken = message.AsMalformed(err)
			if b.sink != nil {
				b.sink.Reset(message.Cancel)
			}
			b.mu.Unlock()
			return
		}
		b.write(p, false)
	}
}

// write sends to the attempt in progress, if there is one still. Its errors show on the attempt's reading side.
func (b *requestBody) write(p []byte, end bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	up := b.sink
	if up == nil {
		return
	}
	var err error
	if len(p) > 0 {
		_, err = up.Write(p)
	}
	switch {
	case err != nil:
	case end:
		err = up.CloseWrite(b.trailer)
	default:
		if n, _ := b.e.down.Buffered(); n == 0 {
			err = up.Flush()
		}
	}
	if err != nil {
		b.sink = nil
	}
}

// detach ends the pump's use of an attempt's stream, before the stream is given back: a body that is not complete resets it.
func (b *requestBody) detach(up message.Stream) {
	if !b.pumped {
		return
	}
	select {
	case <-b.done:
		return
	default:
	}
	up.Reset(message.Cancel) // ends a Write in progress
	b.mu.Lock()
	b.sink = nil
	b.mu.Unlock()
}

// malformed says how the client broke the rules in its body; nil: it did not, so far.
func (b *requestBody) malformed() *message.Malformed {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.broken
}

// stop ends the pump when the exchange is over. A response that was complete before the request lets the client finish for a
// moment (HTTP/1.1), or tells it that the rest is not wanted (HTTP/2: RST_STREAM with NO_ERROR, RFC 9113, 8.1).
func (b *requestBody) stop() {
	if !b.pumped {
		return
	}
	select {
	case <-b.done:
		return
	default:
	}
	e := b.e
	switch {
	case !e.ended:
		e.down.Reset(message.InternalError)
	case e.down.Version() == message.HTTP2:
		e.down.Reset(message.NoError)
	default:
		t := time.NewTimer(lateBody)
		defer t.Stop()
		select {
		case <-b.done:
			return
		case <-t.C:
			e.down.Reset(message.NoError)
		}
	}
	<-b.done
}
