package h2

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// canned is a transport that delivers given bytes in pieces of a given size, then ends.
type canned struct {
	*bytes.Reader
	piece int
}

func (c *canned) Read(p []byte) (int, error) { return c.Reader.Read(p[:min(len(p), c.piece)]) }

func (c *canned) Write(p []byte) (int, error) { return len(p), nil }

func (c *canned) Close() error { return nil }

// FuzzServer gives a server arbitrary bytes after a good beginning. It must end, leave nothing behind, and do the same
// whatever pieces the bytes come in.
func FuzzServer(f *testing.F) {
	var seed bytes.Buffer
	fr := http2.NewFramer(&seed, nil)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, kv := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/echo"}, {":authority", "a"}, {"cookie", "a=1"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]})
	}
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, PadLength: 3})
	_ = fr.WriteData(1, false, []byte("hello"))
	_ = fr.WriteDataPadded(1, true, []byte("end"), make([]byte, 9))
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block.Bytes()[:4]})
	_ = fr.WriteContinuation(3, true, block.Bytes()[4:])
	_ = fr.WriteWindowUpdate(3, 7)
	_ = fr.WriteRSTStream(3, 8)
	_ = fr.WritePing(false, [8]byte{})
	f.Add(seed.Bytes(), uint16(5))
	f.Add([]byte{}, uint16(1))
	settings := string(appendSettings(nil))
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		budget := NewBudget(1 << 20)
		stats := [2]Stats{}
		for i, size := range []int{int(piece)%4096 + 1, 1 << 20} {
			in := &canned{bytes.NewReader(append([]byte(preface+settings), data...)), size}
			c := NewServer(in, Options{Budget: budget, Logger: slog.New(slog.DiscardHandler)}, fixtureHandler)
			done := make(chan struct{})
			go func() { _ = c.Serve(); close(done) }()
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Fatal("Serve does not return")
			}
			if n := c.ActiveStreams(); n != 0 {
				t.Fatalf("%d streams are left", n)
			}
			stats[i] = c.Stats()
			for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
				c.mu.Lock()
				n := c.handlers
				c.mu.Unlock()
				if n == 0 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%d handlers are left", n)
				}
			}
		}
		if stats[0].Opened != stats[1].Opened && stats[0].Refused == 0 && stats[1].Refused == 0 {
			t.Errorf("in pieces %+v, at once %+v", stats[0], stats[1])
		}
		if budget.Grown() != 0 || budget.Queued() != 0 {
			t.Errorf("left in the budget: %d, %d", budget.Grown(), budget.Queued())
		}
	})
}

// FuzzClient gives a client arbitrary bytes as answers to three requests.
func FuzzClient(f *testing.F) {
	var seed bytes.Buffer
	fr := http2.NewFramer(&seed, nil)
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true})
	_ = fr.WriteData(1, true, []byte("hello"))
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0x8d}, EndHeaders: true, EndStream: true})
	_ = fr.WriteRSTStream(5, 7)
	_ = fr.WriteGoAway(3, 0, nil)
	f.Add(seed.Bytes(), uint16(9))
	settings := string(appendSettings(nil))
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		in := &canned{bytes.NewReader(append([]byte(settings), data...)), int(piece)%4096 + 1}
		budget := NewBudget(1 << 20)
		c := NewClient(in, Options{Budget: budget, Logger: slog.New(slog.DiscardHandler)})
		var all sync.WaitGroup
		for _, h := range []*message.Head{get("/"), {Method: "HEAD", Path: "/"}, connectHead()} {
			s := open(t, c, h, h.Method != "CONNECT")
			all.Go(func() {
				for {
					var in message.Head
					end, err := s.ReadHead(&in)
					if err != nil {
						break
					}
					if end || !in.Informational() {
						_, _ = io.Copy(io.Discard, struct{ io.Reader }{s})
						break
					}
				}
				s.Reset(message.Cancel)
			})
		}
		_ = c.Serve()
		done := make(chan struct{})
		go func() { all.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("a stream hangs")
		}
		if n := c.ActiveStreams(); n != 0 {
			t.Errorf("%d streams are left", n)
		}
		if budget.Grown() != 0 || budget.Queued() != 0 {
			t.Errorf("left in the budget: %d, %d", budget.Grown(), budget.Queued())
		}
	})
}

// FuzzFrameHeader: what is written is what is read.
func FuzzFrameHeader(f *testing.F) {
	f.Add([]byte{0, 0, 5, 0, 1, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < frameHeaderLen {
			return
		}
		h := parseFrameHeader(b)
		again := appendFrameHeader(nil, h.length, h.typ, h.flags, h.streamID)
		b[5] &= 0x7f // the reserved bit
		if !bytes.Equal(again, b[:frameHeaderLen]) {
			t.Errorf("%x became %x", b[:frameHeaderLen], again)
		}
	})
}

var _ io.ReadWriteCloser = (*canned)(nil)
