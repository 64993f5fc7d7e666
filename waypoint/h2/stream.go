package h2

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// Stream is one exchange on a connection; it implements [message.Stream], which says what its methods do.
//
// On a server it belongs to the handler and must not be used after the handler has returned: what is not finished then is
// reset. On a client, whoever opened it reads it to its end or calls Reset; nothing else gives it back.
type Stream struct {
	c  *Conn
	id uint32 // a client's is 0 until the request head is written

	closed atomic.Uint32 // closedRecv, closedSend, closedReset

	// Fixed once the request head is known.
	isHead     bool // HEAD: the response has no body
	isConnect  bool // CONNECT: after 2xx the stream is a tunnel
	isExtended bool // extended CONNECT

	recv recvState
	send sendState
}

const (
	closedRecv  = 1 << iota // the peer sent END_STREAM
	closedSend              // this side did
	closedReset             // given up
	closedBoth  = closedRecv | closedSend
)

// recvState is the receiving side.
type recvState struct {
	mu    sync.Mutex
	ready sync.Cond

	head    *message.Head // what ReadHead will give
	headEnd bool
	more    []queuedHead // after head

	data    queue
	end     bool // END_STREAM came; with data before it
	trailer *header.Fields
	err     *message.ResetError
	closed  bool // this side does not want to read any more

	onReset    func(*message.ResetError)
	unreported *message.ResetError // given up before OnReset was called
	telling    chan struct{}       // closed when onReset, which has been called, has returned; nil: it has not been called

	window window

	park   park
	parked atomic.Bool // park.resume is set

	// Of the connection's reader only.
	fresh         bool // a server's: the handler has not been started
	touched       bool // in Conn.touched
	final         bool // the final head has come
	tunnel        bool // nothing but DATA may come
	informational int
	length        int64 // content-length; -1: unknown
	body          int64 // bytes that came
}

type queuedHead struct {
	head *message.Head
	end  bool
}

// sendState is the sending side; Conn.out.mu guards it.
type sendState struct {
	window   int64
	credit   sync.Cond // the stream's window opened
	started  bool      // the (final) head was written
	end      bool
	err      *message.ResetError
	inSpace  bool // waits in output.space or output.heads
	lastAt   int  // where the last frame begins, if lastGen is output.gen
	lastGen  uint64
	hasFrame bool
}

var _ message.Stream = (*Stream)(nil)

// heads are reused: the memory of a head that the caller hands to ReadHead goes to a later message.
var heads = sync.Pool{New: func() any { return new(message.Head) }}

func newStream(c *Conn, id uint32) *Stream {
	s := &Stream{c: c, id: id}
	s.recv.ready.L = &s.recv.mu
	s.send.credit.L = &c.out.mu
	s.recv.length = -1
	return s
}

// ID is the stream's number; 0 on a client before WriteHead.
func (s *Stream) ID() uint32 { return s.id }

// Conn is the connection that carries the stream.
func (s *Stream) Conn() *Conn { return s.c }

// Version is always HTTP/2.
func (s *Stream) Version() message.Version { return message.HTTP2 }

// ReadHead implements [message.Stream].
func (s *Stream) ReadHead(h *message.Head) (end bool, err error) {
	r := &s.recv
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.head == nil {
		switch {
		case r.err != nil:
			return false, r.err
		case r.closed:
			return false, io.ErrClosedPipe
		case r.end:
			return false, io.EOF
		}
		r.ready.Wait()
	}
	if r.err != nil {
		return false, r.err
	}
	head, end := r.head, r.headEnd
	r.head, r.headEnd = nil, false
	if len(r.more) > 0 {
		r.head, r.headEnd = r.more[0].head, r.more[0].end
		r.more = append(r.more[:0], r.more[1:]...)
	}
	*h, *head = *head, *h
	head.Reset()
	heads.Put(head)
	return end, nil
}

// Read implements [message.Stream].
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r := &s.recv
	r.mu.Lock()
	if err := s.awaitData(); err != nil {
		r.mu.Unlock()
		return 0, err
	}
	n := r.data.pop(p)
	update := uint32(0)
	if !r.end {
		update = r.window.taken(r.data.n, s.c)
	}
	r.mu.Unlock()
	s.c.opts.Budget.queue(-int64(n))
	if update > 0 {
		s.c.windowUpdate(s.id, update)
	}
	return n, nil
}

// Await waits until Read would not block, so that whoever waits for a peer need not hold a buffer meanwhile.
// It returns what Read would return: nil if there are bytes, io.EOF, or *message.ResetError.
func (s *Stream) Await() error {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	return s.awaitData()
}

func (s *Stream) awaitData() error {
	r := &s.recv
	for r.data.n == 0 {
		switch {
		case r.closed:
			return io.ErrClosedPipe
		case r.err != nil:
			return r.err
		case r.end:
			return io.EOF
		}
		r.ready.Wait()
	}
	return nil
}

// Buffered implements [message.Stream].
func (s *Stream) Buffered() (n int, complete bool) {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	return s.recv.data.n, s.recv.end
}

// Trailer implements [message.Stream].
func (s *Stream) Trailer() *header.Fields {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	return s.recv.trailer
}

// OnReset implements [message.Stream].
func (s *Stream) OnReset(f func(*message.ResetError)) {
	s.recv.mu.Lock()
	s.recv.onReset = f
	missed, telling := s.recv.unreported, s.recv.telling
	if f != nil {
		s.recv.unreported = nil
	}
	s.recv.mu.Unlock()
	if f == nil && telling != nil {
		<-telling
	}
	if f != nil && missed != nil {
		f(missed)
	}
}

var errAfterEnd = errors.New("h2: write after the end of the stream")

// mayWrite waits until the stream may append a frame. Callers hold out.mu.
func (s *Stream) mayWrite(data bool) error {
	o, w := &s.c.out, &s.send
	for {
		switch {
		case w.err != nil:
			return w.err
		case w.end:
			return errAfterEnd
		case data && !w.started:
			return errors.New("h2: body before head")
		case data && w.window <= 0:
			o.passOn()
			w.credit.Wait()
		case !data && !o.room():
			w.inSpace = true
			o.heads.Wait() // not in space: those may be waiting for window, which a head does not need
			w.inSpace = false
		case data && (!o.room() || o.window <= 0):
			w.inSpace = true
			o.wait()
			w.inSpace = false
		default:
			return nil
		}
	}
}

// Write implements [message.Stream].
func (s *Stream) Write(p []byte) (n int, err error) {
	o := &s.c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.passOn()
	for n < len(p) {
		if err := s.mayWrite(true); err != nil {
			return n, err
		}
		k := min(int64(len(p)-n), s.send.window, o.window, int64(min(o.peerMaxFrame, largestData)))
		b := s.frame(int(k), frameData, 0)
		b.b = append(b.b, p[n:n+int(k)]...)
		s.send.window -= k
		o.window -= k
		n += int(k)
		o.dataFrames.Add(1)
		o.dirty()
	}
	return n, nil
}

// usualBlock is what most header blocks fit into; room for as much is made before one is encoded.
const usualBlock = 512

// frame appends a frame's header and remembers where it is. Callers hold out.mu.
func (s *Stream) frame(length int, typ frameType, flags uint8) *outputBuffer {
	o, w := &s.c.out, &s.send
	o.reserve(frameHeaderLen + max(length, usualBlock))
	b := o.pending()
	w.lastAt, w.lastGen, w.hasFrame = len(b.b), o.gen, true
	b.b = appendFrameHeader(b.b, length, typ, flags, s.id)
	return b
}

// Flush implements [message.Stream]. Nothing is held back: the writer has been woken already.
func (s *Stream) Flush() error {
	s.c.out.mu.Lock()
	defer s.c.out.mu.Unlock()
	if s.send.err != nil {
		return s.send.err
	}
	return nil
}

// WriteHead implements [message.Stream]. On a client the first call takes the stream's number. An upgrade becomes extended
// CONNECT, which the server must have offered.
func (s *Stream) WriteHead(h *message.Head, end bool) error {
	both, err := s.writeHead(h, end)
	if err != nil {
		if errors.Is(err, ErrGoAway) || errors.Is(err, ErrStreamIDs) || errors.Is(err, ErrClosed) {
			s.Reset(message.RefusedStream) // nothing was sent; gives the place back
		}
		return err
	}
	if both {
		s.c.unlinked(s)
	}
	return nil
}

func (s *Stream) writeHead(h *message.Head, end bool) (both bool, err error) {
	o := &s.c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.passOn()
	if s.send.started {
		return false, errors.New("h2: a second head")
	}
	if err := s.mayWrite(false); err != nil {
		return false, err
	}
	if s.c.client {
		if h.Upgrade != "" && !o.peerConnect {
			return false, errors.New("h2: the server does not take extended CONNECT (SETTINGS_ENABLE_CONNECT_PROTOCOL)")
		}
		s.isHead = h.Method == "HEAD"
		s.isConnect = h.Method == "CONNECT" || h.Upgrade != ""
		s.isExtended = h.Upgrade != ""
		if err := s.c.register(s); err != nil {
			return false, &message.ResetError{Code: message.RefusedStream, Lost: true, Cause: err}
		}
		s.send.started = true
	} else {
		s.send.started = !h.Informational()
	}
	s.block(end, func() {
		switch {
		case s.c.client:
			o.enc.request(h)
		case s.isExtended && h.Status == 101:
			granted := *h
			granted.Status = 200
			o.enc.response(&granted, true)
		default:
			o.enc.response(h, s.isConnect)
		}
	})
	return end && s.ended(closedSend), nil
}

// block appends HEADERS, and CONTINUATION if the block is longer than the peer's frames. Callers hold out.mu.
func (s *Stream) block(end bool, encode func()) {
	o := &s.c.out
	flags := uint8(flagEndHeaders)
	if end {
		flags |= flagEndStream
		s.send.end = true
	}
	b := s.frame(0, frameHeaders, flags)
	at := s.send.lastAt
	encode()
	endBlock(b, at, s.id, o.peerMaxFrame)
	o.dataFrames.Add(1)
	o.dirty()
}

// endBlock puts the length into the HEADERS frame at b[at:], and cuts it into frames if it is too long for one.
func endBlock(b *outputBuffer, at int, id uint32, maxFrame int) {
	length := len(b.b) - at - frameHeaderLen
	if length <= maxFrame {
		putFrameLength(b.b[at:], length)
		return
	}
	rest := append([]byte(nil), b.b[at+frameHeaderLen+maxFrame:]...)
	b.b = b.b[:at+frameHeaderLen+maxFrame]
	putFrameLength(b.b[at:], maxFrame)
	b.b[at+4] &^= flagEndHeaders
	for len(rest) > 0 {
		n, flags := min(len(rest), maxFrame), uint8(0)
		if n == len(rest) {
			flags = flagEndHeaders
		}
		b.b = appendFrameHeader(b.b, n, frameContinuation, flags, id)
		b.b = append(b.b, rest[:n]...)
		rest = rest[n:]
	}
}

// CloseWrite implements [message.Stream].
func (s *Stream) CloseWrite(trailer *header.Fields) error {
	both, err := s.closeWrite(trailer)
	if both {
		s.c.unlinked(s)
	}
	return err
}

func (s *Stream) closeWrite(trailer *header.Fields) (both bool, err error) {
	o, w := &s.c.out, &s.send
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.passOn()
	if w.err != nil {
		return false, w.err
	}
	if w.end {
		return false, errAfterEnd
	}
	if !w.started {
		return false, errors.New("h2: end before head")
	}
	switch {
	case trailer != nil && trailer.Len() > 0:
		s.block(true, func() { o.enc.fields(trailer, true) })
	case w.hasFrame && w.lastGen == o.gen && o.buf != nil:
		o.buf.b[w.lastAt+4] |= flagEndStream // the last frame is still here: no need for an empty one
		w.end = true
	default:
		s.frame(0, frameData, flagEndStream)
		w.end = true
		o.dirty()
	}
	w.credit.Broadcast() // a Write that was waiting fails now
	if w.inSpace {
		o.space.Broadcast()
		o.heads.Broadcast()
	}
	return s.ended(closedSend), nil
}
