package h1

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// relay is the smallest proxy: a request from s goes to up, the answer comes back, bodies stream both ways at once.
func relay(t *testing.T, s message.Stream, h *message.Head, end bool, up *ClientConn) {
	if !up.Reusable() {
		t.Error("the backend connection is not reusable")
		s.Reset(message.InternalError)
		return
	}
	u := up.Stream()
	if err := u.WriteHead(h, end); err != nil {
		t.Error(err)
	}
	sent := make(chan error, 1)
	go func() {
		if end {
			sent <- nil
			return
		}
		_, err := io.Copy(u, s)
		if err == nil {
			err = u.CloseWrite(s.Trailer())
		}
		sent <- err
	}()
	answer := &message.Head{}
	var over bool
	var err error
	for {
		if over, err = u.ReadHead(answer); err != nil {
			t.Error(err)
			s.Reset(message.InternalError)
			return
		}
		if err = s.WriteHead(answer, over); err != nil {
			t.Error(err)
		}
		if !answer.Informational() {
			break
		}
	}
	if !over {
		if _, err = io.Copy(s, u); err != nil {
			t.Error(err)
		}
		if err = s.CloseWrite(u.Trailer()); err != nil {
			t.Error(err)
		}
	}
	if err = <-sent; err != nil {
		t.Error(err)
	}
}

// TestBetweenNetHTTP puts the codec between Go's client and Go's server, over real sockets, with one backend connection for all
// requests of a client connection.
func TestBetweenNetHTTP(t *testing.T) {
	var backendConns atomic.Int32
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Saw", fmt.Sprintf("%s %s %s %d", r.Method, r.Host, r.URL, len(body)))
		w.Header().Set("X-Trailer-Saw", r.Trailer.Get("X-Sum"))
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		}
		if r.URL.Path == "/early" {
			w.Header().Set("Link", "</x>")
			w.WriteHeader(http.StatusEarlyHints)
		}
		if r.URL.Path == "/empty" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Trailer", "X-Done")
		for len(body) > 0 {
			n := min(len(body), 1+rand.IntN(40000))
			_, _ = w.Write(body[:n])
			body = body[n:]
			w.(http.Flusher).Flush()
		}
		w.Header().Set("X-Done", "yes")
	}))
	backend.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			backendConns.Add(1)
		}
	}
	backend.Start()
	defer backend.Close()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	o := Options{EnableTrailers: true}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", backend.Listener.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			up := NewClientConn(&tcp{TCPConn: b.(*net.TCPConn)}, o)
			ended := serve(&tcp{TCPConn: c.(*net.TCPConn)}, o, func(s message.Stream, h *message.Head, end bool) { relay(t, s, h, end, up) })
			go func() {
				<-ended //nolint:errcheck // how a connection ends is another test's matter
				up.Close()
			}()
		}
	}()

	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	payload := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	for i := range 60 {
		size := []int{0, 1, 100, 5000, 320000}[i%5]
		method := []string{"GET", "POST", "HEAD", "PUT"}[i%4]
		path := []string{"/length", "/chunked?x=1", "/early", "/empty"}[i/3%4]
		body := io.Reader(bytes.NewReader(payload[:size]))
		if i%2 == 0 {
			body = io.MultiReader(body) // of unknown length: chunked
		}
		if method == "HEAD" || size == 0 {
			body, size = nil, 0
		}
		req, err := http.NewRequestWithContext(context.Background(), method, "http://"+l.Addr().String()+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "service.ns:80"
		if i%2 == 0 && body != nil {
			req.Trailer = http.Header{"X-Sum": {"42"}}
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(i, method, path, size, err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if saw := resp.Header.Get("X-Saw"); saw != fmt.Sprintf("%s service.ns:80 %s %d", method, path, size) {
			t.Error(method, path, "saw", saw)
		}
		if req.Trailer != nil && resp.Header.Get("X-Trailer-Saw") != "42" {
			t.Error("request trailers lost")
		}
		if method != "HEAD" && path != "/empty" && !bytes.Equal(got, payload[:size]) {
			t.Errorf("%s %s: %d bytes of %d", method, path, len(got), size)
		}
		if path == "/chunked?x=1" && method != "HEAD" && resp.Trailer.Get("X-Done") != "yes" {
			t.Error("response trailers lost", method)
		}
	}
	if n := backendConns.Load(); n != 1 {
		t.Errorf("%d backend connections for one client", n)
	}
}

// TestStreaming shows that bodies are not held back: each side waits for the other's last piece before it sends its next.
func TestStreaming(t *testing.T) {
	clientSide, client := pair(t)
	backendSide, backend := pair(t)
	up := NewClientConn(backendSide, Options{})
	serve(clientSide, Options{}, func(s message.Stream, h *message.Head, end bool) { relay(t, s, h, end, up) })
	_, _ = io.WriteString(client, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n0\r\n")
	expect := func(c net.Conn, want string) {
		t.Helper()
		var got strings.Builder
		b := make([]byte, 1)
		for !strings.HasSuffix(got.String(), want) {
			if _, err := c.Read(b); err != nil {
				t.Fatalf("%q, %v", got.String(), err)
			}
			got.Write(b)
		}
	}
	expect(backend, "\r\n\r\n1\r\n0\r\n")
	_, _ = io.WriteString(backend, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n0\r\n")
	expect(client, "\r\n\r\n1\r\n0\r\n")
	for range 5 {
		_, _ = io.WriteString(client, "2\r\nup\r\n")
		expect(backend, "2\r\nup\r\n")
		_, _ = io.WriteString(backend, "4\r\ndown\r\n")
		expect(client, "4\r\ndown\r\n")
	}
	_, _ = io.WriteString(client, "0\r\n\r\n")
	_, _ = io.WriteString(backend, "0\r\n\r\n")
	expect(backend, "0\r\n\r\n")
	expect(client, "0\r\n\r\n")
}
