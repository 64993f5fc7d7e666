package h2

import (
	"errors"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// Conn is one HTTP/2 connection. Its methods may be called from any goroutine.
type Conn struct {
	rw      io.ReadWriteCloser
	opts    Options
	client  bool
	handler func(*Stream)
	began   time.Time
	out     output
	reader  reader

	controls, resets bucket // of the reader
	completed        atomic.Int64
	rtt              atomic.Int64 // shortest seen, in ns; 0: not known

	mu         sync.Mutex
	streams    map[uint32]*Stream
	active     int // streams open; on a client, those without a number too
	handlers   int // of a server, running
	nextID     uint32
	maxStreams uint32 // what the peer allows a client
	idleSince  time.Time
	lastPeerID uint32 // the highest stream that the peer opened
	goAway     bool   // Open gives nothing any more
	draining   bool   // close when the last stream has ended
	refuseFrom uint32 // streams from this number on came too late for our GOAWAY; 0: none
	closedIDs  closedStreams
	err        error
	closed     bool
	serving    bool
	timer      *time.Timer
	force      *time.Timer // closes the transport when the last bytes take too long
	drainPing  bool

	life  lifecycle
	done  chan struct{}
	stats struct {
		opened, refused, malformed, resetsReceived, bytesRead, bytesWritten atomic.Int64
	}
	resetsSent   atomic.Int64
	wantCapacity atomic.Bool
	wentAway     atomic.Bool
	readEnded    atomic.Bool // nobody reads the transport any more
}

// Stats are counts since the connection began.
type Stats struct {
	Opened         int64 // streams
	Refused        int64 // streams that the peer opened beyond the limit
	Malformed      int64 // heads and trailers that broke a rule
	ResetsSent     int64
	ResetsReceived int64
	BytesRead      int64
	BytesWritten   int64
}

// NewServer makes the server's end of a connection. rw is a TLS connection whose handshake chose h2, or a tunnel. handler runs
// in a goroutine for each stream; see [Stream]. The connection lives when [Conn.Serve] is called.
func NewServer(rw io.ReadWriteCloser, o Options, handler func(*Stream)) *Conn {
	c := newConn(rw, o)
	c.handler = handler
	list := c.settings()
	list = append(list, setting{settingMaxConcurrentStreams, c.opts.MaxConcurrentStreams})
	if c.opts.EnableConnectProtocol {
		list = append(list, setting{settingEnableConnectProtocol, 1})
	}
	c.hello("", list)
	c.reader.wantPreface = preface
	return c
}

// NewClient makes the client's end of a connection. Streams may be opened at once; what they write goes out when
// [Conn.Serve] is called, without waiting for the server's SETTINGS.
func NewClient(rw io.ReadWriteCloser, o Options) *Conn {
	c := newConn(rw, o)
	c.client = true
	c.nextID = 1
	c.maxStreams = c.opts.PeerMaxStreams
	c.hello(preface, append(c.settings(), setting{settingEnablePush, 0}))
	return c
}

func newConn(rw io.ReadWriteCloser, o Options) *Conn {
	c := &Conn{rw: rw, opts: o.withDefaults(), began: time.Now(), streams: make(map[uint32]*Stream), done: make(chan struct{})}
	c.idleSince = c.began
	c.out.init()
	c.reader.init(c)
	c.controls = newBucket(c.opts.Limits.ControlBurst, c.opts.Limits.ControlsPerSecond)
	c.resets = newBucket(c.opts.Limits.ResetBurst, c.opts.Limits.ResetsPerSecond)
	return c
}

func (c *Conn) settings() []setting {
	list := []setting{
		{settingInitialWindowSize, c.opts.InitialWindow},
		{settingMaxHeaderListSize, c.opts.MaxHeaderListSize},
	}
	if c.opts.MaxFrameSize != defaultMaxFrameSize {
		list = append(list, setting{settingMaxFrameSize, c.opts.MaxFrameSize})
	}
	return list
}

// hello puts into the output what a connection begins with.
func (c *Conn) hello(first string, list []setting) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	b := c.out.pending()
	b.b = append(b.b, first...)
	b.b = appendSettings(b.b, list...)
	if n := c.opts.ConnWindow - defaultWindow; n > 0 {
		b.b = appendWindowUpdate(b.b, 0, n)
	}
}

// Serve runs the connection until it ends, and closes rw. It returns nil if the connection ended in order: after Shutdown, or
// by the peer with no stream open. Handlers may still be running; their streams fail.
func (c *Conn) Serve() error {
	c.mu.Lock()
	if c.closed || c.serving {
		c.mu.Unlock()
		return ErrClosed
	}
	c.serving = true
	c.mu.Unlock()
	c.startTimer()

	written := make(chan struct{})
	go func() {
		defer close(written)
		if err := c.out.run(c.rw, &c.stats.bytesWritten, c.signalCapacity); err != nil {
			c.end(err)
		}
		if !c.readEnded.Load() {
			_ = c.rw.Close() // ends the reader; the reason is in c.err, and there is nobody to tell of a failing Close
		}
	}()
	err := c.read()
	c.readEnded.Store(true)
	c.end(err)
	<-written
	var broken *ConnError
	if errors.As(err, &broken) && !broken.Remote {
		c.linger()
	}
	_ = c.rw.Close() // as above
	c.mu.Lock()
	c.force.Stop()
	c.mu.Unlock()
	close(c.done)
	return c.Err()
}

// Open gives a client a new stream, or an error that says why this connection has none: [ErrGoAway], [ErrTooManyStreams],
// [ErrOutputBlocked], [ErrStreamIDs], [ErrClosed]. It does not wait. The stream counts as open from now on; Reset gives it
// back.
func (c *Conn) Open() (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.canOpen(); err != nil {
		c.wantCapacity.Store(true)
		return nil, err
	}
	c.active++
	s := newStream(c, 0)
	s.recv.window = window{size: int64(c.opts.InitialWindow), avail: int64(c.opts.InitialWindow)}
	return s, nil
}

// CanOpen tells whether Open would give a stream.
func (c *Conn) CanOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.canOpen() == nil
}

func (c *Conn) canOpen() error {
	switch {
	case !c.client:
		return errors.New("h2: a server opens no streams")
	case c.closed:
		return ErrClosed
	case c.goAway:
		return ErrGoAway
	case c.nextID > maxStreamID:
		return ErrStreamIDs
	case c.active >= int(min(c.maxStreams, maxWindow)):
		return ErrTooManyStreams
	case c.out.full.Load():
		return ErrOutputBlocked
	}
	return nil
}

// register gives a client's stream its number, which has to be in the order of the frames: callers hold out.mu.
func (c *Conn) register(s *Stream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return ErrClosed
	case c.goAway:
		return ErrGoAway
	case c.nextID > maxStreamID:
		return ErrStreamIDs
	}
	s.id = c.nextID
	c.nextID += 2
	c.streams[s.id] = s
	s.send.window = c.out.peerWindow
	c.stats.opened.Add(1)
	return nil
}

func (c *Conn) lookup(id uint32) *Stream {
	c.mu.Lock()
	s := c.streams[id]
	c.mu.Unlock()
	return s
}

// unlink takes a stream out of the connection. It is called once for each stream, before the peer can learn from a frame of
// ours that the stream has ended: a client that uses all the streams that it may have opens the next one at once.
// Callers may hold out.mu.
func (c *Conn) unlink(s *Stream, how endedHow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[s.id] == s {
		delete(c.streams, s.id)
		c.closedIDs.add(s.id, how)
	}
	if c.active--; c.active == 0 {
		c.idleSince = time.Now()
	}
}

// unlinked does what follows from unlink, without locks.
func (c *Conn) unlinked(s *Stream) {
	s.recv.mu.Lock()
	s.recv.window.release(c)
	s.recv.mu.Unlock()

	c.mu.Lock()
	idle := c.active == 0
	finish := idle && c.draining && !c.drainPing
	c.mu.Unlock()
	if finish {
		c.end(nil)
	}
	if idle && c.opts.OnIdle != nil {
		c.opts.OnIdle(c)
	}
	c.signalCapacity()
}

func (c *Conn) signalCapacity() {
	if c.opts.OnCapacity != nil && c.wantCapacity.Swap(false) {
		c.opts.OnCapacity(c)
	}
}

// handle runs the handler of one stream.
func (c *Conn) handle(s *Stream) { c.serve(s, func() { c.handler(s) }) }

// serve runs the handler of a stream, or what goes on after it parked, and finishes what it left undone.
func (c *Conn) serve(s *Stream, run func()) {
	defer func() {
		p := recover()
		if p == nil && !s.left() {
			return // parked
		}
		if p != nil {
			// A request that brings the process down would take everyone else's with it. Logged before the stream counts as
			// finished: who waits for that finds it reset soon after.
			c.opts.Logger.Error("h2: a handler panicked", "stream", s.id, "panic", p, "stack", string(debug.Stack()))
		}
		c.mu.Lock()
		c.handlers--
		c.mu.Unlock()
		if p != nil {
			s.Reset(message.InternalError)
			return
		}
		if s.closed.Load()&closedBoth == closedBoth {
			s.drop()
			return
		}
		code := message.InternalError
		if s.closed.Load()&closedSend != 0 {
			code = message.NoError // the answer is whole: the peer need not send the rest (RFC 9113, 8.1)
		}
		s.Reset(code)
	}()
	run()
}

func (c *Conn) windowUpdate(id, n uint32) {
	if !c.out.control(c.opts.Limits.MaxQueuedControls, func(b []byte) []byte { return appendWindowUpdate(b, id, n) }) {
		c.end(errFlooded)
	}
}

// ActiveStreams is the number of streams that are open in a direction at least.
func (c *Conn) ActiveStreams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active
}

// IdleSince is when the last stream ended, or the connection began; the zero time while a stream is open.
func (c *Conn) IdleSince() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active > 0 {
		return time.Time{}
	}
	return c.idleSince
}

// Done is closed when Serve has finished.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why the connection ended; nil while it lives and after an orderly end.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// RTT is the shortest round trip seen on the connection, 0 if none has been measured.
func (c *Conn) RTT() time.Duration { return time.Duration(c.rtt.Load()) }

// Stats returns the counts so far.
func (c *Conn) Stats() Stats {
	return Stats{
		Opened:         c.stats.opened.Load(),
		Refused:        c.stats.refused.Load(),
		Malformed:      c.stats.malformed.Load(),
		ResetsSent:     c.resetsSent.Load(),
		ResetsReceived: c.stats.resetsReceived.Load(),
		BytesRead:      c.stats.bytesRead.Load(),
		BytesWritten:   c.stats.bytesWritten.Load(),
	}
}
