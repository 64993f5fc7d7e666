package h1

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// serve answers with what handle writes, until the connection ends; the result is how.
func serve(c message.Conn, o Options, handle func(message.Stream, *message.Head, bool)) <-chan error {
	ended := make(chan error, 1)
	go func() {
		sc := NewServerConn(c, o)
		defer sc.Close()
		for {
			s, err := sc.Next()
			if err != nil {
				ended <- err
				return
			}
			h := &message.Head{}
			end, err := s.ReadHead(h)
			if m := message.AsMalformed(err); m != nil {
				_ = s.WriteHead(&message.Head{Status: m.Status}, true)
			} else if err != nil {
				ended <- err
				return
			} else {
				handle(s, h, end)
			}
			if !sc.Finish() {
				ended <- nil
				return
			}
		}
	}()
	return ended
}

func ok(s message.Stream, _ *message.Head, _ bool) { _ = s.WriteHead(&message.Head{Status: 200}, true) }

func wait(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the connection is still being served")
		return nil
	}
}

// readResponseFrom reads a whole response; its body has been read and closed.
func readResponseFrom(t *testing.T, r *bufio.Reader, method string) http.Response {
	t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return *resp
}

func TestHalfClosedClientGetsItsAnswer(t *testing.T) {
	ours, peer := pair(t)
	ended := serve(ours, Options{}, ok)
	_, _ = io.WriteString(peer, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	_ = peer.CloseWrite()
	out, err := io.ReadAll(peer)
	if err != nil || !strings.HasPrefix(string(out), "HTTP/1.1 200 OK\r\n") {
		t.Errorf("%q, %v", out, err)
	}
	if err = wait(t, ended); err != io.EOF {
		t.Error(err)
	}
}

// A line without CR is refused at once: its sender waits for an answer and will never send a CRLF.
func TestRefusedBeforeTheHeadEnds(t *testing.T) {
	for in, status := range map[string]int{
		"GET / HTTP/1.1\nHost: a\n\n": 400, "GET /\r\n": 426, "GET / HTTP/1.0\r\n": 426, "HELO example.com\r\n": 400,
	} {
		ours, peer := pair(t)
		ended := serve(ours, Options{}, ok)
		_, _ = io.WriteString(peer, in)
		if resp := readResponseFrom(t, bufio.NewReader(peer), "GET"); resp.StatusCode != status || !resp.Close {
			t.Errorf("%q: %d, close %v", in, resp.StatusCode, resp.Close)
		}
		_ = peer.Close()
		if err := wait(t, ended); err != nil {
			t.Error(err)
		}
	}
}

func TestPrefixComesFirst(t *testing.T) {
	ours, peer := pair(t)
	ended := serve(ours, Options{Prefix: []byte("GET /sniffed HT")}, func(s message.Stream, h *message.Head, _ bool) {
		_ = s.WriteHead(&message.Head{Status: 200, Fields: fields("path: " + h.Path)}, true)
	})
	_, _ = io.WriteString(peer, "TP/1.1\r\nHost: a\r\n\r\n")
	if resp := readResponseFrom(t, bufio.NewReader(peer), "GET"); resp.Header.Get("path") != "/sniffed" {
		t.Error(resp)
	}
	_ = peer.Close()
	_ = wait(t, ended)
}

// A denied request with a small body costs no connection; one with a big body does, and still gets its answer.
func TestUnreadBodies(t *testing.T) {
	for _, c := range []struct {
		name, head string
		body       int
		keep       bool
	}{
		{"small", "Content-Length: 30000", 30000, true},
		{"big", "Content-Length: 300000", 300000, false},
		{"never sent", "Content-Length: 10", 5, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, peer := pair(t)
			ended := serve(ours, Options{}, ok)
			_, _ = io.WriteString(peer, "POST / HTTP/1.1\r\nHost: a\r\n"+c.head+"\r\n\r\n")
			sent := make(chan struct{})
			go func() {
				_, _ = io.WriteString(peer, strings.Repeat("x", c.body))
				close(sent)
			}()
			r := bufio.NewReader(peer)
			if resp := readResponseFrom(t, r, "POST"); resp.StatusCode != http.StatusOK {
				t.Error(resp.Status)
			}
			if !c.keep {
				if err := wait(t, ended); err != nil {
					t.Error(err)
				}
				return
			}
			<-sent
			_, _ = io.WriteString(peer, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			if resp := readResponseFrom(t, r, "GET"); resp.StatusCode != http.StatusOK {
				t.Error(resp.Status)
			}
			_ = peer.Close()
			_ = wait(t, ended)
		})
	}
}

func TestCloseAfter(t *testing.T) {
	ours, peer := pair(t)
	sc := NewServerConn(ours, Options{})
	_, _ = io.WriteString(peer, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	s, err := sc.Next()
	if err != nil {
		t.Fatal(err)
	}
	h := &message.Head{}
	if _, err = s.ReadHead(h); err != nil {
		t.Fatal(err)
	}
	sc.CloseAfter()
	ok(s, h, true)
	if sc.Finish() {
		t.Error("kept")
	}
	if resp := readResponseFrom(t, bufio.NewReader(peer), "GET"); !resp.Close {
		t.Error("no Connection: close")
	}
}

func TestIdleConnectionHoldsNoBuffer(t *testing.T) {
	wire := &tape{in: []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")}
	sc, s, h := exchangeOn(t, wire, Options{})
	if _, err := io.Copy(io.Discard, readerOf(s)); err != nil {
		t.Fatal(err)
	}
	if sc.s.in.buf != nil {
		t.Error("a read buffer while the answer is awaited")
	}
	ok(s, h, true)
	if !sc.Finish() || sc.s.in.buf != nil || sc.s.out.buf != nil {
		t.Error("a buffer while idle")
	}
}

func TestUpgrade(t *testing.T) {
	// client ── ours ══ backend: an upgrade through both sides, with bytes that both peers send too early.
	clientSide, client := pair(t)
	backendSide, backend := pair(t)
	up := NewClientConn(backendSide, Options{})
	ended := serve(clientSide, Options{}, func(s message.Stream, h *message.Head, end bool) {
		if h.Upgrade != "websocket" || end {
			t.Error(h, end)
		}
		if v, _ := h.Get("upgrade"); v != h.Upgrade {
			t.Errorf("upgrade: %q", v)
		}
		if v, _ := h.Get("connection"); !strings.EqualFold(v, "upgrade") {
			t.Errorf("connection: %q", v)
		}
		u := up.Stream()
		if err := u.WriteHead(h, false); err != nil {
			t.Error(err)
		}
		answer := &message.Head{}
		if end, err := u.ReadHead(answer); err != nil || end || answer.Upgrade != "websocket" {
			t.Error(err, end, answer)
		}
		if err := s.WriteHead(answer, false); err != nil {
			t.Error(err)
		}
		done := make(chan error)
		go func() {
			_, err := io.Copy(u, s)
			done <- errors.Join(err, u.CloseWrite(nil))
		}()
		_, err := io.Copy(s, u)
		if err = errors.Join(err, s.CloseWrite(nil), <-done); err != nil {
			t.Error(err)
		}
	})
	_, _ = io.WriteString(client, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly ")
	br := bufio.NewReader(backend)
	req, err := http.ReadRequest(br)
	if err != nil || req.Header.Get("Upgrade") != "websocket" {
		t.Fatal(req, err)
	}
	if br.Buffered() > 0 {
		t.Error("early bytes reached a backend that had not agreed")
	}
	_, _ = io.WriteString(backend, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nwelcome")
	_, _ = io.WriteString(client, "bird")
	_ = client.CloseWrite()
	if got, err := io.ReadAll(br); string(got) != "early bird" || err != nil {
		t.Errorf("the backend got %q, %v", got, err)
	}
	_ = backend.CloseWrite()
	cr := bufio.NewReader(client)
	resp, err := http.ReadResponse(cr, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "websocket" {
		t.Fatal(resp, err)
	}
	_ = resp.Body.Close() // a 101 has none
	if got, err := io.ReadAll(cr); string(got) != "welcome" || err != nil {
		t.Errorf("the client got %q, %v", got, err)
	}
	_ = wait(t, ended)
	if up.Reusable() {
		t.Error("an upgraded connection is used again")
	}
}

func TestOnReset(t *testing.T) {
	gone := &message.ResetError{Code: message.Cancel, Remote: true}
	ours, peer := pair(t)
	sc := NewServerConn(ours, Options{})
	_, _ = io.WriteString(peer, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
	s, err := sc.Next()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = s.ReadHead(&message.Head{}); err != nil {
		t.Fatal(err)
	}
	calls := 0
	s.OnReset(func(e *message.ResetError) {
		if calls++; e != gone {
			t.Error(e)
		}
	})
	ours.reset(gone)
	if calls != 1 {
		t.Error(calls, "calls")
	}
	s.OnReset(func(*message.ResetError) { calls++ })
	if calls != 2 {
		t.Error("not called at once when it is too late")
	}
	_ = ours.TCPConn.Close()
	if _, err = s.Read(make([]byte, 1)); !errors.Is(err, gone) {
		t.Error("Read:", err)
	}
	if sc.Finish() {
		t.Error("kept")
	}

	// A reset by this side is not reported to itself.
	ours, _ = pair(t)
	c := NewClientConn(ours, Options{})
	s = c.Stream()
	s.OnReset(func(*message.ResetError) { t.Error("called for an own reset") })
	s.Reset(message.Cancel)
	s.Reset(message.InternalError)
	var r *message.ResetError
	if _, err = s.Read(make([]byte, 1)); !errors.As(err, &r) || r.Code != message.Cancel || r.Remote || r.Lost {
		t.Error(err)
	}
	if _, err = s.Write([]byte("x")); !errors.As(err, &r) || c.Reusable() {
		t.Error(err)
	}
}

func TestIdleBackendConnection(t *testing.T) {
	exchange := func(c *ClientConn, peer net.Conn) {
		s := c.Stream()
		if err := s.WriteHead(&message.Head{Method: "GET", Path: "/", Authority: "a"}, true); err != nil {
			t.Fatal(err)
		}
		_, _ = peer.Read(make([]byte, 100))
		_, _ = io.WriteString(peer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		h := &message.Head{}
		if _, err := s.ReadHead(h); err != nil || h.Status != 200 {
			t.Fatal(err)
		}
		if c.Reusable() {
			t.Error("usable before the body was read")
		}
		if b, err := io.ReadAll(readerOf(s)); string(b) != "ok" || err != nil {
			t.Fatal(b, err)
		}
	}
	for name, spoil := range map[string]func(*net.TCPConn){
		"bytes that nobody asked for": func(p *net.TCPConn) { _, _ = io.WriteString(p, "HTTP/1.1 200 OK\r\n\r\n") },
		"the backend closes":          func(p *net.TCPConn) { _ = p.Close() },
		"the backend half-closes":     func(p *net.TCPConn) { _ = p.CloseWrite() },
		"the backend resets":          func(p *net.TCPConn) { _ = p.SetLinger(0); _ = p.Close() },
	} {
		ours, peer := pair(t)
		c := NewClientConn(ours, Options{})
		if !c.Reusable() {
			t.Error("fresh, and not usable")
		}
		for range 3 {
			exchange(c, peer)
			if !c.Reusable() {
				t.Fatal("not usable after an exchange")
			}
		}
		spoil(peer)
		for i := 0; c.Reusable(); i++ {
			if i == 1000 {
				t.Fatal(name, "and it is still used")
			}
			time.Sleep(time.Millisecond)
		}
	}
	c := NewClientConn(struct{ message.Conn }{&tape{in: []byte("HTTP/1.1 204 No Content\r\n\r\n")}}, Options{})
	s := c.Stream()
	if err := s.WriteHead(&message.Head{Method: "GET", Path: "/", Authority: "a"}, true); err != nil {
		t.Fatal(err)
	}
	if end, err := s.ReadHead(&message.Head{}); !end || err != nil || c.Reusable() {
		t.Error("a connection that cannot be asked must not be used again")
	}
}

// An answer that comes before the request is whole is read, but the connection is done for.
func TestEarlyResponse(t *testing.T) {
	ours, peer := pair(t)
	c := NewClientConn(ours, Options{})
	s := c.Stream()
	if err := s.WriteHead(&message.Head{Method: "POST", Path: "/", Authority: "a"}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("part")); err != nil {
		t.Fatal(err)
	}
	_, _ = peer.Read(make([]byte, 1000))
	_, _ = io.WriteString(peer, "HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n")
	h := &message.Head{}
	if end, err := s.ReadHead(h); err != nil || !end || h.Status != 413 {
		t.Error(h, end, err)
	}
	if c.Reusable() {
		t.Error("usable in the middle of a request")
	}
}
