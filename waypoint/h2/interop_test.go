package h2

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// The peers in this file are golang.org/x/net/http2 and ourselves, over TLS on loopback.

func goClient(t testing.TB) *http.Client {
	tr := &http2.Transport{TLSClientConfig: clientTLS()}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 60 * time.Second}
}

// serveGo runs x/net's server and returns its address.
func serveGo(t testing.TB, h http.HandlerFunc) string {
	addr := listen(t, func(nc net.Conn) {
		if err := nc.(*tls.Conn).Handshake(); err != nil {
			t.Error(err)
			return
		}
		(&http2.Server{}).ServeConn(nc, &http2.ServeConnOpts{Handler: h})
	})
	return addr
}

// pattern is a reader of n bytes that are different everywhere.
type pattern struct{ n, at int }

func (p *pattern) Read(b []byte) (int, error) {
	k := min(len(b), p.n-p.at)
	for i := range b[:k] {
		b[i] = byte((p.at + i) * 31 >> 3)
	}
	p.at += k
	if p.at == p.n {
		return k, io.EOF
	}
	return k, nil
}

func sum(t testing.TB, r io.Reader) (int64, uint32) {
	t.Helper()
	h := crc32.NewIEEE()
	n, err := io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, 64<<10))
	if err != nil {
		t.Error(err)
	}
	return n, h.Sum32()
}

const bulk = 100 << 20

func TestGoClientSendsAndTakes100MB(t *testing.T) {
	addr := serveOurs(t, echo)
	resp, err := goClient(t).Post("https://"+addr+"/", "x/y", &pattern{n: bulk})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	n, got := sum(t, resp.Body)
	_, want := sum(t, &pattern{n: bulk})
	if n != bulk || got != want {
		t.Errorf("got %d bytes, checksum %x; want %x", n, got, want)
	}
}

func TestGoServerTakesAndSends100MB(t *testing.T) {
	addr := serveGo(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_, _ = io.Copy(w, r.Body)
	})
	c := dialOurs(t, addr, Options{})
	s := open(t, c, &message.Head{Method: "POST", Scheme: "https", Authority: "a", Path: "/"}, false)
	go func() {
		if _, err := io.CopyBuffer(struct{ io.Writer }{s}, &pattern{n: bulk}, make([]byte, 64<<10)); err != nil {
			t.Error(err)
		}
		if err := s.CloseWrite(nil); err != nil {
			t.Error(err)
		}
	}()
	readHead(t, s)
	n, got := sum(t, s)
	_, want := sum(t, &pattern{n: bulk})
	if n != bulk || got != want {
		t.Errorf("got %d bytes, checksum %x; want %x", n, got, want)
	}
	if size := s.recv.window.size; size > 4<<20 {
		t.Errorf("the window grew to %d", size)
	}
	eventually(t, "the stream is forgotten", func() bool { return c.ActiveStreams() == 0 })
}

func TestGoClientSees(t *testing.T) {
	addr := serveOurs(t, func(s *Stream) {
		var h message.Head
		end, err := s.ReadHead(&h)
		if err != nil {
			t.Error(err)
			return
		}
		var out message.Head
		out.Status = 103
		out.Fields.Append("link", "</a>")
		if err := s.WriteHead(&out, false); err != nil {
			t.Error(err)
		}
		out.Reset()
		out.Status = 201
		out.Fields.Append("x-saw", fmt.Sprint(h.Method, " ", h.Authority, " ", h.Path, " ", h.Fields.Value(header.Cookie), " ", end))
		out.Fields.Append("connection", "close")
		out.Fields.Append("x-large", strings.Repeat("l", 40<<10)) // needs CONTINUATION
		if err := s.WriteHead(&out, false); err != nil {
			t.Error(err)
		}
		_, _ = s.Write([]byte("hello"))
		var trailer header.Fields
		trailer.Append("x-sum", "5")
		if err := s.CloseWrite(&trailer); err != nil {
			t.Error(err)
		}
	})
	req, _ := http.NewRequest("GET", "https://"+addr+"/p?q=1", nil)
	req.Host = "svc.example:80"
	req.Header.Add("Cookie", "a=1; b=2")
	resp, err := goClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusCreated || string(body) != "hello" || resp.Trailer.Get("X-Sum") != "5" {
		t.Errorf("%d %q %v", resp.StatusCode, body, resp.Trailer)
	}
	if got, want := resp.Header.Get("X-Saw"), "GET svc.example:80 /p?q=1 a=1; b=2 true"; got != want {
		t.Errorf("saw %q, want %q", got, want)
	}
	if len(resp.Header.Get("X-Large")) != 40<<10 || resp.Header.Get("Connection") != "" {
		t.Error("a header is wrong")
	}
}

func TestGoServerSees(t *testing.T) {
	addr := serveGo(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("X-Saw", fmt.Sprint(r.Method, " ", r.Host, " ", r.URL.Path, " ", r.Header.Get("Cookie"), " ", string(body), " ", r.Trailer.Get("X-T")))
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "gone")
		w.Header().Set("X-Sum", "4")
	})
	c := dialOurs(t, addr, Options{})
	h := get("/p")
	h.Method = "POST"
	h.Fields.Append("cookie", "a=1")
	h.Fields.Append("trailer", "x-t")
	s := open(t, c, h, false)
	_, _ = s.Write([]byte("body"))
	var trailer header.Fields
	trailer.Append("x-t", "t")
	if err := s.CloseWrite(&trailer); err != nil {
		t.Fatal(err)
	}
	if first, end := readHead(t, s); first.Status != 103 || end {
		t.Errorf("first head: %d", first.Status)
	}
	final, end := readHead(t, s)
	saw, _ := final.Get("x-saw")
	if final.Status != 404 || end || saw != "POST waypoint /p a=1 body t" {
		t.Errorf("%d %v %q", final.Status, end, saw)
	}
	body, err := io.ReadAll(s)
	if string(body) != "gone" || err != nil || s.Trailer() == nil {
		t.Fatalf("%q %v", body, err)
	}
	if v, _ := s.Trailer().Get("x-sum"); v != "4" {
		t.Errorf("trailer %q", v)
	}
}

func TestGoClientOpensTunnel(t *testing.T) {
	addr := serveOurs(t, echo)
	pr, pw := io.Pipe()
	req := &http.Request{Method: "CONNECT", URL: mustURL("https://" + addr), Host: "10.0.0.1:80", Header: http.Header{}, Body: pr}
	resp, err := goClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = pw.Write([]byte("ping")); _ = pw.Close() }()
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || string(got) != "ping" || err != nil {
		t.Errorf("%d %q %v", resp.StatusCode, got, err)
	}
}

func TestTunnelToGoServer(t *testing.T) {
	addr := serveGo(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "CONNECT" || r.Host != "10.0.0.1:80" {
			t.Errorf("%s %s", r.Method, r.Host)
		}
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(bytes.ToUpper(b))
	})
	c := dialOurs(t, addr, Options{})
	s := open(t, c, &message.Head{Method: "CONNECT", Authority: "10.0.0.1:80"}, false)
	if h, end := readHead(t, s); h.Status != 200 || end {
		t.Fatal(h.Status, end)
	}
	tun := s.Tunnel()
	_, _ = tun.Write([]byte("half-close"))
	if err := tun.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(tun)
	if string(got) != "HALF-CLOSE" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	eventually(t, "stream forgotten", func() bool { return c.ActiveStreams() == 0 })
}

func TestHundredStreamsWithOneStalled(t *testing.T) {
	addr := serveOurs(t, func(s *Stream) {
		h, _ := readHead(t, s)
		_ = s.WriteHead(ok(), false)
		if h.Path == "/stalled" {
			_, _ = io.Copy(struct{ io.Writer }{s}, &pattern{n: 64 << 20})
			return
		}
		_, _ = io.Copy(struct{ io.Writer }{s}, &pattern{n: 1 << 20})
		_ = s.CloseWrite(nil)
	})
	c := dialOurs(t, addr, Options{})
	stalled := open(t, c, get("/stalled"), true)
	readHead(t, stalled) // and nothing more
	_, want := sum(t, &pattern{n: 1 << 20})
	var all sync.WaitGroup
	for range 99 {
		s := open(t, c, get("/"), true)
		all.Go(func() {
			var h message.Head
			if _, err := s.ReadHead(&h); err != nil {
				t.Error(err)
			}
			if n, got := sum(t, s); n != 1<<20 || got != want {
				t.Errorf("%d bytes, %x", n, got)
			}
		})
	}
	if _, err := c.Open(); !errors.Is(err, ErrTooManyStreams) {
		t.Errorf("the 101st stream: %v", err)
	}
	all.Wait()
	if n, _ := stalled.Buffered(); n == 0 || n > 64<<10 {
		t.Errorf("%d bytes wait on the stalled stream", n)
	}
	stalled.Reset(message.Cancel)
	eventually(t, "all streams forgotten", func() bool { return c.ActiveStreams() == 0 })
}

func TestDrainFinishesWhatIsInFlight(t *testing.T) {
	release := make(chan struct{})
	var server *Conn
	started := make(chan struct{}, 1)
	addr := listen(t, func(nc net.Conn) {
		server = NewServer(nc, Options{}, func(s *Stream) {
			started <- struct{}{}
			<-release
			_ = s.WriteHead(ok(), false)
			_, _ = s.Write([]byte("whole"))
			_ = s.CloseWrite(nil)
		})
		if err := server.Serve(); err != nil {
			t.Error("an orderly end: ", err)
		}
	})
	away := make(chan struct{})
	nc, err := tls.Dial("tcp", addr, clientTLS())
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(nc, Options{OnGoAway: func(*Conn) { close(away) }})
	go func() { _ = c.Serve() }()
	s := open(t, c, get("/"), true)
	<-started
	server.Shutdown(0)
	<-away
	if _, err := c.Open(); !errors.Is(err, ErrGoAway) {
		t.Errorf("Open after GOAWAY: %v", err)
	}
	close(release)
	if h, _ := readHead(t, s); h.Status != 200 {
		t.Error(h.Status)
	}
	if b, err := io.ReadAll(s); string(b) != "whole" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	for _, conn := range []*Conn{c, server} {
		select {
		case <-conn.Done():
		case <-time.After(5 * time.Second):
			t.Fatal("the connection does not end")
		}
	}
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}

func TestGoClientIsDrained(t *testing.T) {
	var mu sync.Mutex
	var conns []*Conn
	addr := listen(t, func(nc net.Conn) {
		c := NewServer(nc, Options{}, func(s *Stream) { _ = s.WriteHead(ok(), true) })
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
		_ = c.Serve()
	})
	client := goClient(t)
	for i := range 300 {
		if i%10 == 9 {
			mu.Lock()
			conns[len(conns)-1].Shutdown(time.Second)
			mu.Unlock()
		}
		resp, err := client.Get("https://" + addr + "/")
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		_ = resp.Body.Close()
	}
}

func TestConnectionLossResetsStreams(t *testing.T) {
	kill := make(chan net.Conn, 1)
	addr := listen(t, func(nc net.Conn) {
		kill <- nc
		_ = NewServer(nc, Options{}, func(s *Stream) { <-s.c.Done() }).Serve()
	})
	c := dialOurs(t, addr, Options{})
	s := open(t, c, get("/"), false)
	lost := make(chan *message.ResetError, 2)
	s.OnReset(func(e *message.ResetError) { lost <- e })
	_ = (<-kill).(*tls.Conn).NetConn().Close()
	if e := <-lost; !e.Lost {
		t.Error(e)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("Write after the connection was lost")
	}
	s.OnReset(func(e *message.ResetError) { lost <- e })
	if len(lost) != 0 {
		t.Error("OnReset ran twice")
	}
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}
