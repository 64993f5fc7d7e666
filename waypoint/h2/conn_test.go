package h2

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// pair is a server and a client of this package over TLS on loopback.
func pair(t testing.TB, so, co Options, handler func(*Stream)) (server, client *Conn) {
	t.Helper()
	ready := make(chan *Conn, 1)
	addr := listen(t, func(nc net.Conn) {
		c := NewServer(nc, so, handler)
		ready <- c
		_ = c.Serve()
	})
	client = dialOurs(t, addr, co)
	server = <-ready
	t.Cleanup(func() { server.Close(nil) })
	return server, client
}

// rawClient is a peer that reads and writes frames only when told to.
func rawClient(t testing.TB, addr string) (*http2.Framer, net.Conn) {
	t.Helper()
	nc, err := tls.Dial("tcp", addr, clientTLS())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_, _ = io.WriteString(nc, preface)
	fr := http2.NewFramer(nc, nc)
	_ = fr.WriteSettings()
	return fr, nc
}

func waitDone(t testing.TB, c *Conn) error {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the connection does not end")
	}
	return c.Err()
}

func connectHead() *message.Head { return &message.Head{Method: "CONNECT", Authority: "10.0.0.1:80"} }

func TestKeepalive(t *testing.T) {
	t.Run("answered", func(t *testing.T) {
		o := Options{KeepaliveInterval: 5 * time.Millisecond, KeepaliveTimeout: 2 * time.Second}
		server, client := pair(t, o, o, echo)
		eventually(t, "round trips are measured", func() bool { return server.RTT() > 0 && client.RTT() > 0 })
		time.Sleep(30 * time.Millisecond)
		if server.Err() != nil || client.Err() != nil {
			t.Error(server.Err(), client.Err())
		}
	})
	t.Run("not answered", func(t *testing.T) {
		done := make(chan error, 1)
		addr := listen(t, func(nc net.Conn) {
			done <- NewServer(nc, Options{KeepaliveInterval: 5 * time.Millisecond, KeepaliveTimeout: 20 * time.Millisecond}, echo).Serve()
		})
		rawClient(t, addr)
		var ce *ConnError
		if err := <-done; !errors.As(err, &ce) {
			t.Error(err)
		}
	})
}

func TestIdleConnectionCloses(t *testing.T) {
	server, client := pair(t, Options{}, Options{IdleTimeout: 50 * time.Millisecond}, echo)
	s := open(t, client, connectHead(), false)
	readHead(t, s)
	time.Sleep(120 * time.Millisecond)
	if !client.IdleSince().IsZero() || client.Err() != nil || !client.CanOpen() {
		t.Fatal("closed with a stream open")
	}
	s.Reset(message.Cancel)
	if err := waitDone(t, client); err != nil {
		t.Error(err)
	}
	if err := waitDone(t, server); err != nil {
		t.Error(err)
	}
	if _, err := client.Open(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestPrefaceTimeout(t *testing.T) {
	done := make(chan error, 1)
	addr := listen(t, func(nc net.Conn) {
		done <- NewServer(nc, Options{PrefaceTimeout: 20 * time.Millisecond}, echo).Serve()
	})
	nc, err := tls.Dial("tcp", addr, clientTLS())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	if err := <-done; err == nil {
		t.Error("a silent client was kept")
	}
}

func TestDrainGrace(t *testing.T) {
	server, client := pair(t, Options{}, Options{}, echo)
	s := open(t, client, connectHead(), false)
	readHead(t, s)
	server.Shutdown(50 * time.Millisecond)
	var e *message.ResetError
	if _, err := s.Read(make([]byte, 1)); !errors.As(err, &e) || !e.Lost {
		t.Error(err)
	}
	if err := waitDone(t, server); err == nil {
		t.Error("Err must say that streams were cut off")
	}
}

// A peer that reads nothing must not hold up the reader: PINGs and credit still arrive, other limits still hold.
func TestBlockedOutput(t *testing.T) {
	blocked := make(chan *Conn, 1)
	addr := listen(t, func(nc net.Conn) {
		c := NewServer(nc, Options{}, func(s *Stream) {
			readHead(t, s)
			_ = s.WriteHead(ok(), false)
			_, _ = io.Copy(struct{ io.Writer }{s}, &pattern{n: 64 << 20})
		})
		blocked <- c
		_ = c.Serve()
	})
	fr, _ := rawClient(t, addr)
	c := <-blocked
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
	_ = fr.WriteWindowUpdate(0, 1<<30)
	for id := uint32(1); id < 20; id += 2 {
		writeGet(t, fr, id)
	}
	eventually(t, "the output is full and stays so", func() bool {
		written := c.Stats().BytesWritten
		time.Sleep(50 * time.Millisecond) // the kernel's buffers take some, too
		return c.out.full.Load() && c.Stats().BytesWritten == written
	})
	before := c.Stats().BytesRead
	_ = fr.WritePing(false, [8]byte{1})
	eventually(t, "the PING is read", func() bool { return c.Stats().BytesRead > before })
	c.out.mu.Lock()
	waiting := len(c.out.buf.b)
	c.out.mu.Unlock()
	if waiting > outputBound+2*largestFrame {
		t.Errorf("%d bytes wait", waiting)
	}
	// A flood of PINGs whose answers are not read ends the connection.
	for range 3000 {
		if err := fr.WritePing(false, [8]byte{1}); err != nil {
			break
		}
	}
	if err := waitDone(t, c); err == nil {
		t.Error("not closed")
	}
}

func writeGet(t testing.TB, fr *http2.Framer, id uint32) {
	t.Helper()
	// Indexed :method GET, :scheme http, :path / and a literal :authority without indexing.
	block := []byte{0x82, 0x86, 0x84, 0x01, 0x01, 'a'}
	if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: true}); err != nil {
		t.Fatal(err)
	}
}

func TestClientSeesBlockedOutput(t *testing.T) {
	capacity := make(chan struct{}, 10)
	theirs, ours := net.Pipe()
	c := NewClient(ours, Options{OnCapacity: func(*Conn) { capacity <- struct{}{} }})
	go func() { _ = c.Serve() }()
	defer c.Close(nil)
	fr := http2.NewFramer(theirs, theirs)
	go func() {
		_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24})
		_ = fr.WriteWindowUpdate(0, 1<<24)
	}()
	s := open(t, c, connectHead(), false)
	go func() { _, _ = io.Copy(struct{ io.Writer }{s}, &pattern{n: 1 << 20}) }()
	eventually(t, "the output is full and stays so", func() bool {
		time.Sleep(10 * time.Millisecond)
		return !c.CanOpen()
	})
	if _, err := c.Open(); !errors.Is(err, ErrOutputBlocked) {
		t.Error(err)
	}
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	<-capacity
	eventually(t, "it may open again", c.CanOpen)
}

// A head needs no window: it goes out while other streams have used up the connection's.
func TestHeadsPassWithoutWindow(t *testing.T) {
	served := make(chan *Conn, 1)
	addr := listen(t, func(nc net.Conn) {
		c := NewServer(nc, Options{}, func(s *Stream) {
			readHead(t, s)
			_ = s.WriteHead(ok(), false)
			_, _ = io.Copy(struct{ io.Writer }{s}, &pattern{n: 1 << 20})
		})
		served <- c
		_ = c.Serve()
	})
	fr, _ := rawClient(t, addr)
	c := <-served
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
	for id := uint32(1); id < 9; id += 2 {
		writeGet(t, fr, id)
	}
	got, heads := 0, 0
	for heads < 8 {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			if got += len(f.Data()); got == defaultWindow { // all the connection's window is used
				c.out.mu.Lock()
				if c.out.window != 0 {
					t.Errorf("window %d", c.out.window)
				}
				c.out.mu.Unlock()
				for id := uint32(9); id < 17; id += 2 {
					writeGet(t, fr, id)
				}
			}
		case *http2.HeadersFrame:
			heads++
		}
	}
	if got != defaultWindow {
		t.Errorf("%d bytes came within a window of %d", got, defaultWindow)
	}
}

func TestTunnelClose(t *testing.T) {
	t.Run("the peer ends too", func(t *testing.T) {
		_, client := pair(t, Options{}, Options{}, echo)
		s := open(t, client, connectHead(), false)
		readHead(t, s)
		tun := s.Tunnel()
		if _, err := tun.Write([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		if err := tun.Close(); err != nil {
			t.Error(err)
		}
		if _, err := tun.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
		eventually(t, "the stream has ended", func() bool { return client.ActiveStreams() == 0 })
	})
	t.Run("the peer has sent what nobody reads", func(t *testing.T) {
		_, client := pair(t, Options{}, Options{}, func(s *Stream) {
			readHead(t, s)
			_ = s.WriteHead(ok(), false)
			_ = s.Await() // the bytes are there
			_, _ = s.Write([]byte("last words"))
			_ = s.Tunnel().Close()
		})
		s := open(t, client, connectHead(), false)
		s.OnReset(func(e *message.ResetError) { t.Error("a reset, which may overtake the last words:", e) })
		readHead(t, s)
		if _, err := s.Write([]byte("more")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the stream has ended", func() bool { return client.ActiveStreams() == 0 })
		if b, err := io.ReadAll(s); string(b) != "last words" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("the peer does not end", func(t *testing.T) {
		reset := make(chan *message.ResetError, 1)
		got := make(chan string, 1)
		_, client := pair(t, Options{}, Options{}, func(s *Stream) {
			s.OnReset(func(e *message.ResetError) { reset <- e })
			readHead(t, s)
			_ = s.WriteHead(ok(), false)
			b, _ := io.ReadAll(s)
			got <- string(b)
			<-s.c.Done()
		})
		s := open(t, client, connectHead(), false)
		readHead(t, s)
		tun := s.Tunnel()
		_, _ = tun.Write([]byte("last words"))
		_ = tun.Close()
		if b := <-got; b != "last words" {
			t.Errorf("%q", b)
		}
		if e := <-reset; e.Code != message.Cancel || !e.Remote {
			t.Error(e)
		}
	})
}

func TestCloseEndsABlockedWrite(t *testing.T) {
	_, client := pair(t, Options{}, Options{}, func(s *Stream) {
		readHead(t, s)
		_ = s.WriteHead(ok(), false)
		<-s.c.Done()
	})
	s := open(t, client, connectHead(), false)
	readHead(t, s)
	tun := s.Tunnel()
	failed := make(chan error, 1)
	go func() {
		_, err := io.Copy(struct{ io.Writer }{tun}, &pattern{n: 1 << 20})
		failed <- err
	}()
	time.Sleep(20 * time.Millisecond)
	_ = tun.Close()
	select {
	case err := <-failed:
		if err == nil {
			t.Error("it wrote more than the window")
		}
	case <-time.After(500 * time.Millisecond): // before the linger's reset
		t.Error("Write still waits")
	}
}

func TestLargeFrameOptionBoundsOnlyData(t *testing.T) {
	done := make(chan error, 1)
	addr := listen(t, func(nc net.Conn) { done <- NewServer(nc, Options{MaxFrameSize: 1 << 20}, echo).Serve() })
	fr, nc := rawClient(t, addr)
	block := []byte{0x83, 0x86, 0x84, 0x01, 0x01, 'a'} // POST / on a
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true})
	if err := fr.WriteData(1, true, make([]byte, 60<<10)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, nc) }()
	_, _ = nc.Write(appendFrameHeader(nil, 1<<20, frameHeaders, 0, 3))
	var ce *ConnError
	if err := <-done; !errors.As(err, &ce) || ce.Code != message.EnhanceYourCalm {
		t.Error(err)
	}
}

func TestHalfCloseIsNotACancel(t *testing.T) {
	answered := make(chan error, 1)
	_, client := pair(t, Options{}, Options{}, func(s *Stream) {
		s.OnReset(func(e *message.ResetError) { t.Error("reset: ", e) })
		readHead(t, s)
		if _, err := io.ReadAll(s); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Millisecond)
		answered <- s.WriteHead(ok(), true)
	})
	s := open(t, client, get("/"), true)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if h, end := readHead(t, s); h.Status != 200 || !end {
		t.Error(h.Status, end)
	}
}

// Whoever learns that a stream has ended may open the next one: neither side counts it any more.
func TestAllPlacesInUse(t *testing.T) {
	const places = 4
	server, client := pair(t, Options{MaxConcurrentStreams: places}, Options{PeerMaxStreams: places}, func(s *Stream) {
		var h message.Head
		_, _ = s.ReadHead(&h)
		_ = s.WriteHead(ok(), false)
		_, _ = s.Write([]byte("x"))
		_ = s.CloseWrite(nil)
	})
	var all sync.WaitGroup
	for range places {
		all.Go(func() {
			for range 2000 {
				s, err := client.Open()
				if err == nil {
					err = s.WriteHead(get("/"), true)
				}
				if err == nil {
					_, err = s.ReadHead(new(message.Head))
				}
				if err == nil {
					_, err = io.ReadAll(s)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if n := server.Stats().Refused; n != 0 {
		t.Errorf("%d streams refused", n)
	}
}

func TestOnResetAfterTheFact(t *testing.T) {
	_, client := pair(t, Options{}, Options{}, func(s *Stream) { s.Reset(message.RefusedStream) })
	s := open(t, client, get("/"), true)
	var h message.Head
	_, err := s.ReadHead(&h)
	var e *message.ResetError
	if !errors.As(err, &e) || !e.Refused() {
		t.Fatal(err)
	}
	// ReadHead knows of the reset a moment before it is reported: the call comes within OnReset or right after it.
	called := make(chan *message.ResetError, 1)
	s.OnReset(func(got *message.ResetError) { called <- got })
	select {
	case got := <-called:
		if got != e {
			t.Error(got)
		}
	case <-time.After(5 * time.Second):
		t.Error("not called")
	}
	s.Reset(message.Cancel) // idempotent
	if n := client.Stats().ResetsSent; n != 0 {
		t.Errorf("%d resets sent on a stream that was gone", n)
	}
}

// Windows grow for a stream that needs it, within the budget, and give it back.
func TestWindowsFollowTheBudget(t *testing.T) {
	send := func(s *Stream) {
		readHead(t, s)
		_ = s.WriteHead(ok(), false)
		_, _ = io.Copy(struct{ io.Writer }{s}, &pattern{n: 16 << 20})
		_ = s.CloseWrite(nil)
	}
	download := func(b *Budget) {
		_, client := pair(t, Options{}, Options{Budget: b}, send)
		client.rtt.Store(int64(time.Second)) // far away: half a window always comes within a round trip
		s := open(t, client, get("/"), true)
		readHead(t, s)
		if n, _ := sum(t, s); n != 16<<20 {
			t.Error(n)
		}
		eventually(t, "the stream has ended", func() bool { return client.ActiveStreams() == 0 })
		if b != nil && (b.Grown() != 0 || b.Queued() != 0) {
			t.Errorf("left in the budget: %d grown, %d queued", b.Grown(), b.Queued())
		}
	}
	roomy, tight := NewBudget(64<<20), NewBudget(1<<20)
	download(roomy)
	download(tight)

	c := newConn(nil, Options{Budget: tight})
	c.rtt.Store(int64(time.Hour))
	w := window{size: 1 << 16, updated: 1}
	for range 20 {
		w.adapt(c)
	}
	if w.size != 512<<10 || tight.Grown() != w.size-1<<16 {
		t.Errorf("window %d, grown %d: half the budget is 512 KiB", w.size, tight.Grown())
	}
	tight.queue(600 << 10) // more than half waits to be read
	for range 20 {
		w.adapt(c)
	}
	if w.size != smallWindow || tight.Grown() != 0 {
		t.Errorf("window %d, grown %d: it must shrink", w.size, tight.Grown())
	}
	tight.queue(600 << 10)
	if !tight.exhausted() {
		t.Error("new streams must be refused")
	}
}

func TestExhaustedBudgetRefusesStreams(t *testing.T) {
	b := NewBudget(1000)
	b.queue(1001)
	server, client := pair(t, Options{Budget: b}, Options{}, echo)
	s := open(t, client, get("/"), true)
	var h message.Head
	_, err := s.ReadHead(&h)
	var e *message.ResetError
	if !errors.As(err, &e) || !e.Refused() || server.Stats().Refused != 1 {
		t.Error(err, server.Stats().Refused)
	}
}

// What a stalled stream holds is its window, and dropping the stream releases it.
func TestQueuedBytesAreReleased(t *testing.T) {
	b := NewBudget(1 << 30)
	_, client := pair(t, Options{}, Options{Budget: b}, func(s *Stream) {
		readHead(t, s)
		_ = s.WriteHead(ok(), false)
		_, _ = io.Copy(struct{ io.Writer }{s}, &pattern{n: 1 << 20})
	})
	s := open(t, client, get("/"), true)
	eventually(t, "the window is full", func() bool { return b.Queued() == 1<<16 })
	s.Reset(message.Cancel)
	eventually(t, "released", func() bool { return b.Queued() == 0 })
}

// Thousands of idle tunnels hold next to nothing: the bound is for both ends, which live in this process.
func TestIdleTunnelsAreCheap(t *testing.T) {
	const conns, streams = 40, 99
	addr := serveOurs(t, func(s *Stream) {
		var h message.Head
		_, _ = s.ReadHead(&h)
		_ = s.WriteHead(ok(), false)
		_ = s.Await()
	})
	measure := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := measure()
	for range conns {
		c := dialOurs(t, addr, Options{})
		for range streams {
			s := open(t, c, connectHead(), false)
			readHead(t, s)
		}
	}
	per := (measure() - before) / (conns * streams)
	t.Logf("%d bytes per tunnel, its share of the connections included, at both ends together", per)
	if per > 16<<10 {
		t.Errorf("%d bytes per idle tunnel", per)
	}
}

// HTTP/2 inside an HBONE tunnel: a connection whose transport is a stream of another.
func TestConnectionInsideATunnel(t *testing.T) {
	outerServer, outerClient := pair(t, Options{}, Options{}, func(s *Stream) {
		readHead(t, s)
		_ = s.WriteHead(ok(), false)
		_ = NewServer(s.Tunnel(), Options{}, echo).Serve()
	})
	tun := open(t, outerClient, connectHead(), false)
	readHead(t, tun)
	inner := NewClient(tun.Tunnel(), Options{})
	go func() { _ = inner.Serve() }()
	var all sync.WaitGroup
	_, want := sum(t, &pattern{n: 1 << 20})
	streams := make([]*Stream, 20)
	for i := range streams { // before any has a body: a connection whose output is full opens none
		streams[i] = open(t, inner, &message.Head{Method: "POST", Scheme: "http", Authority: "a", Path: "/"}, false)
	}
	for _, s := range streams {
		all.Go(func() {
			_, _ = io.Copy(struct{ io.Writer }{s}, &pattern{n: 1 << 20})
			_ = s.CloseWrite(nil)
		})
		all.Go(func() {
			if _, err := s.ReadHead(new(message.Head)); err != nil {
				t.Error(err)
			}
			if n, got := sum(t, s); n != 1<<20 || got != want {
				t.Errorf("%d bytes, %x", n, got)
			}
		})
	}
	all.Wait()
	inner.Shutdown(0)
	if err := waitDone(t, inner); err != nil {
		t.Error(err)
	}
	eventually(t, "the tunnel has ended", func() bool { return outerClient.ActiveStreams()+outerServer.ActiveStreams() == 0 })
}
