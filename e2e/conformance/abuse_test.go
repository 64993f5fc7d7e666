package conformance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/gowaypoint/gowaypoint/e2e/bench/subject"
)

// flood is an attack that is a step repeated for as long as the proxy lets it.
type flood struct {
	name string
	// first is sent once, step again and again; i counts the steps from 0.
	first func(f *http2.Framer) error
	step  func(f *http2.Framer, i uint32) error
	// streams is how many streams the proxy may have seen when it gives up, by its GOAWAY, and requests how many of them may have
	// reached the pod. Streams beyond the hundred that are allowed at a time are refused at once: an honest client may open them,
	// so they count as control frames (1,000) and not as resets (500).
	streams  uint32
	requests int64
}

// steps is how many steps no flood may survive. The limits are at 1,000 control frames and 500 resets; the rest, of at least nine
// bytes each, is what socket buffers hold until the attacker notices.
const steps = 5_000_000

var floods = []flood{
	{name: "rapid reset (CVE-2023-44487)", streams: 3000, requests: 700, step: func(f *http2.Framer, i uint32) error {
		return errors.Join(request(f, 2*i+1), f.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	}},
	{name: "making the proxy reset (CVE-2025-8671)", streams: 3000, requests: 700, step: func(f *http2.Framer, i uint32) error {
		return errors.Join(request(f, 2*i+1), f.WriteWindowUpdate(2*i+1, 0))
	}},
	{name: "CONTINUATION (CVE-2024-27316)", streams: 1, requests: 1, first: func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(":method", "GET")})
	}, step: func(f *http2.Framer, _ uint32) error { return f.WriteContinuation(1, false, fields("x", "y")) }},
	{name: "empty CONTINUATION", streams: 1, requests: 1, first: func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(":method", "GET")})
	}, step: func(f *http2.Framer, _ uint32) error { return f.WriteContinuation(1, false, nil) }},
	{name: "PING (CVE-2019-9512)", step: func(f *http2.Framer, _ uint32) error { return f.WritePing(false, [8]byte{}) }},
	{name: "SETTINGS (CVE-2019-9515)", step: func(f *http2.Framer, i uint32) error {
		return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: i % 100})
	}},
	{name: "PRIORITY (CVE-2019-9513)", step: func(f *http2.Framer, i uint32) error {
		return f.WritePriority(2*i+1, http2.PriorityParam{StreamDep: 0, Weight: uint8(i)})
	}},
	{name: "WINDOW_UPDATE", step: func(f *http2.Framer, _ uint32) error { return f.WriteWindowUpdate(0, 1) }},
	{name: "empty DATA (CVE-2019-9518)", streams: 1, requests: 1, first: func(f *http2.Framer) error { return request(f, 1) },
		step: func(f *http2.Framer, _ uint32) error { return f.WriteData(1, false, nil) }},
	{name: "frames of unknown type", step: func(f *http2.Framer, _ uint32) error { return f.WriteRawFrame(99, 0, 0, nil) }},
}

// fields are a header block that uses no state.
func fields(pairs ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(pairs); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1], Sensitive: true}) // to memory
	}
	return b.Bytes()
}

// request opens a stream: on either port something that the proxy does not end by itself.
func request(f *http2.Framer, id uint32) error {
	return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true,
		BlockFragment: fields(":method", "POST", ":scheme", "http", ":authority", "helloworld:8080", ":path", "/wait")})
}

// attackers are the places that HTTP/2 can be spoken to.
func attackers(n *node) map[string]func() (net.Conn, error) {
	addr := n.forward().String()
	return map[string]func() (net.Conn, error){
		"HBONE port": func() (net.Conn, error) { return n.dialTLS() },
		"tunnel":     func() (net.Conn, error) { return net.Dial("tcp", addr) },
	}
}

// Who floods gets GOAWAY(ENHANCE_YOUR_CALM) after a bounded number of frames and streams; the pod sees little of it, and a client
// on another connection nothing at all.
func TestFloods(t *testing.T) {
	var reached atomic.Int64
	n := start(t, ours(t), "127.9.25", app(&reached))
	other := bystander(t, n)
	before, err := subject.CPU(n.proxy.PID())
	must(t, err)
	for where, dial := range attackers(n) {
		for _, a := range floods {
			t.Run(where+"/"+a.name, func(t *testing.T) {
				c, err := dial()
				must(t, err)
				before := reached.Load()
				sent, answers, away := attack(t, c, a)
				if answers > 4000 {
					t.Errorf("the proxy has sent %d frames", answers)
				}
				switch {
				case away == nil:
					t.Errorf("no GOAWAY after %d steps", sent)
				case away.ErrCode != http2.ErrCodeEnhanceYourCalm:
					t.Errorf("GOAWAY %v %q, want ENHANCE_YOUR_CALM", away.ErrCode, away.DebugData())
				case (away.LastStreamID+1)/2 > a.streams:
					t.Errorf("%d streams were seen, want at most %d", (away.LastStreamID+1)/2, a.streams)
				}
				if sent >= steps {
					t.Errorf("the connection survives %d steps", sent)
				}
				if got := reached.Load() - before; got > a.requests {
					t.Errorf("%d requests have reached the pod", got)
				}
			})
		}
	}
	other(t)
	after, err := subject.CPU(n.proxy.PID())
	must(t, err)
	attacks := 2 * len(floods)
	t.Logf("CPU per attacking connection, with the other client's: %v", (after-before)/time.Duration(attacks))
	// Processor time, not time: another's load does not count. What an attacker costs is a few thousand frames.
	if after-before > time.Duration(attacks)*200*time.Millisecond {
		t.Errorf("%d attacks took %v of CPU", attacks, after-before)
	}
}

// attack sends until the connection ends, and returns how many steps went out, how many frames came back, and the GOAWAY.
func attack(t *testing.T, c net.Conn, a flood) (sent, answers int, away *http2.GoAwayFrame) {
	t.Helper()
	defer func() { _ = c.Close() }() // it is over
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	told := make(chan *http2.GoAwayFrame, 1)
	w := bufio.NewWriterSize(c, 4<<10)
	f := http2.NewFramer(w, nil)
	f.AllowIllegalWrites = true
	go func() {
		r := http2.NewFramer(nil, c)
		for ; ; answers++ {
			frame, err := r.ReadFrame()
			if g, ok := frame.(*http2.GoAwayFrame); ok {
				told <- &http2.GoAwayFrame{FrameHeader: g.FrameHeader, LastStreamID: g.LastStreamID, ErrCode: g.ErrCode}
				return
			}
			if err != nil {
				told <- nil
				return
			}
		}
	}()
	_, err := w.WriteString(http2.ClientPreface)
	err = errors.Join(err, f.WriteSettings())
	if a.first != nil {
		err = errors.Join(err, a.first(f))
	}
	must(t, err)
	for ; sent < steps; sent++ {
		if err := a.step(f, uint32(sent)); err != nil {
			break // the connection has ended
		}
		if len(told) > 0 {
			break
		}
	}
	select {
	case away = <-told:
	case <-time.After(2 * time.Minute):
		t.Fatal("the connection's deadline does not end it")
	}
	return sent, answers, away
}

// app answers at once, but not to /wait. It counts what it gets.
func app(reached *atomic.Int64) func(net.Conn) {
	return func(c net.Conn) {
		l := &oneConn{c: make(chan net.Conn, 1)}
		l.c <- c
		_ = (&http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/bystander" {
				fmt.Fprint(w, "hello\n")
				return
			}
			reached.Add(1)
			<-r.Context().Done()
		})}).Serve(l) // ends with the process, as l does
	}
}

// bystander makes requests one after the other, on an HBONE connection of its own, until the function that it returns is called;
// that one reports any that failed.
func bystander(t *testing.T, n *node) (stop func(*testing.T)) {
	t.Helper()
	tunnel, err := n.tunnel(n.hboneConn())
	must(t, err)
	end, done := make(chan struct{}), make(chan error, 1)
	requests := 0
	go func() {
		done <- func() error {
			r := bufio.NewReader(tunnel)
			for ; ; requests++ {
				select {
				case <-end:
					return nil
				case <-time.After(2 * time.Millisecond):
				}
				if _, err := io.WriteString(tunnel, "GET /bystander HTTP/1.1\r\nHost: helloworld:8080\r\n\r\n"); err != nil {
					return err
				}
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					return err
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close() // read to its end
				if err != nil || resp.StatusCode != http.StatusOK || string(body) != "hello\n" {
					return fmt.Errorf("%d %q %w", resp.StatusCode, body, err)
				}
			}
		}()
	}()
	return func(t *testing.T) {
		t.Helper()
		close(end)
		select {
		case err := <-done:
			if err != nil || requests == 0 {
				t.Errorf("another client, after %d requests: %v", requests, err)
			}
		case <-time.After(patience):
			t.Error("another client gets no answer")
		}
	}
}

// A header list that is small on the wire and huge when decoded is answered with 431, costs no memory, and the connection goes on.
func TestHugeHeaderLists(t *testing.T) {
	var reached atomic.Int64
	n := start(t, ours(t), "127.9.26", app(&reached))
	other := bystander(t, n)
	const wanted = ":method\x00GET\x00:scheme\x00http\x00:authority\x00helloworld:8080\x00:path\x00/"
	indexed := func(name, value string, times int) []byte { // the field once in full, then as a reference of one byte
		b := fields(strings.Split(wanted, "\x00")...)
		b = append(b, 0x40)
		b = hpack.AppendHuffmanString(append(b, 0x80|byte(hpack.HuffmanEncodeLength(name))), name)
		b = append(b, 0x7f) // a length of 127 and more, without Huffman
		for rest := len(value) - 127; ; rest >>= 7 {
			if rest < 128 {
				b = append(b, byte(rest))
				break
			}
			b = append(b, byte(rest)|0x80)
		}
		b = append(b, value...)
		return append(b, bytes.Repeat([]byte{0x80 | 62}, times)...)
	}
	cases := map[string][]byte{
		"cookie crumbs by reference (CVE-2026-47774)": indexed("cookie", strings.Repeat("c", 3000), 12_000),
		"one field by reference":                      indexed("x", strings.Repeat("c", 3000), 12_000),
		"small cookie crumbs":                         fields(append(strings.Split(wanted, "\x00"), repeat("cookie", "a", 2000)...)...),
		"small fields":                                fields(append(strings.Split(wanted, "\x00"), repeat("x", "a", 2000)...)...),
	}
	before := peakMemory(t, n)
	for where, dial := range attackers(n) {
		for name, block := range cases {
			t.Run(where+"/"+name, func(t *testing.T) {
				c, err := dial()
				must(t, err)
				defer func() { _ = c.Close() }() // it is over
				_ = c.SetDeadline(time.Now().Add(patience))
				f := http2.NewFramer(c, c)
				_, err = io.WriteString(c, http2.ClientPreface)
				must(t, errors.Join(err, f.WriteSettings()))
				const times = 20
				for i := range uint32(times) {
					first := block[:min(len(block), 16<<10)]
					must(t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, EndStream: true, BlockFragment: first, EndHeaders: len(first) == len(block)}))
					if rest := block[len(first):]; len(rest) > 0 {
						must(t, f.WriteContinuation(2*i+1, true, rest))
					}
				}
				must(t, f.WritePing(false, [8]byte{1}))
				answers := 0
				decoder := hpack.NewDecoder(4096, func(h hpack.HeaderField) {
					if h.Name == ":status" {
						if answers++; h.Value != "431" {
							t.Errorf("status %s", h.Value)
						}
					}
				})
				for {
					frame, err := f.ReadFrame()
					must(t, err)
					switch frame := frame.(type) {
					case *http2.HeadersFrame:
						_, err = decoder.Write(frame.HeaderBlockFragment())
						must(t, err)
					case *http2.GoAwayFrame:
						t.Fatalf("GOAWAY %v %q", frame.ErrCode, frame.DebugData())
					case *http2.PingFrame:
						if !frame.IsAck() {
							continue
						}
						if answers != times {
							t.Errorf("%d answers to %d requests", answers, times)
						}
						return
					}
				}
			})
		}
	}
	other(t)
	if got := reached.Load(); got > 0 {
		t.Errorf("%d requests have reached the pod", got)
	}
	// One list decoded would be 36 MB.
	if grown := peakMemory(t, n) - before; grown > 32<<20 {
		t.Errorf("the peak of memory has grown by %d MiB", grown>>20)
	}
}

func repeat(name, value string, n int) (pairs []string) {
	for range n {
		pairs = append(pairs, name, value)
	}
	return pairs
}

// peakMemory is the most resident memory that the proxy has had, in bytes.
func peakMemory(t *testing.T, n *node) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.proxy.PID()))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	must(t, err)
	return kib << 10
}

// HTTP/1.1 heads without an end: what one may hold is bounded, and a bound that is passed ends the connection with an answer.
func TestEndlessHeads(t *testing.T) {
	var reached atomic.Int64
	n := start(t, ours(t), "127.9.27", app(&reached))
	other := bystander(t, n)
	addr := n.forward().String()
	for name, head := range map[string]struct{ first, then string }{
		"request line":          {"GET /", strings.Repeat("a", 4096)},
		"a field":               {"GET / HTTP/1.1\r\nHost: a\r\nX: ", strings.Repeat("a", 4096)},
		"many fields":           {"GET / HTTP/1.1\r\nHost: a\r\n", "X: a\r\n"},
		"chunk extension":       {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;", strings.Repeat("a", 4096)},
		"empty lines":           {"", "\r\n"},
		"spaces before a value": {"GET / HTTP/1.1\r\nHost: a\r\nX:", strings.Repeat(" ", 4096)},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", addr)
			must(t, err)
			defer func() { _ = c.Close() }() // it is over
			_ = c.SetDeadline(time.Now().Add(patience))
			ended := make(chan string, 1)
			go func() {
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					ended <- err.Error()
					return
				}
				_ = resp.Body.Close() // the status is all that is looked at
				ended <- resp.Status
			}()
			_, err = io.WriteString(c, head.first)
			must(t, err)
			const limit = 16 << 20 // socket buffers and a stream's window hold much less
			sent := 0
			for ; sent < limit && err == nil && len(ended) == 0; sent += len(head.then) {
				_, err = io.WriteString(c, head.then)
			}
			if sent >= limit {
				t.Fatal("the proxy takes everything")
			}
			if got := <-ended; !strings.HasPrefix(got, "4") {
				t.Errorf("it ended with %s, want 4xx", got)
			}
		})
	}
	other(t)
}

// A hundred requests that never end, each with nearly as long a head as is allowed, hold no more than that, and a client on another
// connection is served.
func TestHalfOpenRequests(t *testing.T) {
	var reached atomic.Int64
	n := start(t, ours(t), "127.9.28", app(&reached))
	other := bystander(t, n)
	before := peakMemory(t, n)
	h := n.hboneConn()
	const size = 50 << 10
	head := "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: "+strings.Repeat("a", 1021)+"\r\n", size/1026)
	for range 100 {
		tunnel, err := n.tunnel(h)
		must(t, err)
		_, err = io.WriteString(tunnel, head)
		must(t, err)
	}
	time.Sleep(200 * time.Millisecond) // the bystander's turn
	other(t)
	if got := reached.Load(); got > 0 {
		t.Errorf("%d requests have reached the pod", got)
	}
	if grown := peakMemory(t, n) - before; grown > 3*100*size {
		t.Errorf("the peak of memory has grown by %d KiB for 100 heads of %d KiB", grown>>10, size>>10)
	}
}

// Who connects and says nothing is cut off: before the handshake, and before the first SETTINGS.
func TestSilentConnections(t *testing.T) {
	n := start(t, ours(t), "127.9.29", httpApp)
	for name, dial := range map[string]func() (net.Conn, error){
		"before TLS":      func() (net.Conn, error) { return net.Dial("tcp", n.config.Address()) },
		"before SETTINGS": func() (net.Conn, error) { return n.dialTLS() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := dial()
			must(t, err)
			defer func() { _ = c.Close() }() // it is over
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("still open after 30 s; 10 s are allowed")
			}
		})
	}
}
