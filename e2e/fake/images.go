package fake

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Images are the applications that the manifests may name.
var Images = map[string]Image{"echo": echo, "greeter": greeter}

// echo speaks whatever is spoken to it on one port: HTTP/1.1, HTTP/2 without TLS and gRPC over it, WebSocket, HTTP over TLS, and
// for everything else a TCP echo that begins with the pod's name.
func echo(p *Pod, l net.Listener) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	inner := &connListener{conns: make(chan net.Conn), closed: make(chan struct{}), addr: l.Addr()}
	server := &http.Server{Handler: &echoHandler{pod: p, seen: map[string]int{}}, Protocols: protocols}
	go func() { _ = server.Serve(inner) }()
	for {
		c, err := l.Accept()
		if err != nil {
			_ = server.Close()
			return
		}
		go func() {
			b := &bufferedConn{Conn: c, r: bufio.NewReader(c)}
			if _, err := b.r.Peek(1); err != nil {
				_ = c.Close()
				return
			}
			first, _ := b.r.Peek(min(4, b.r.Buffered())) // what is buffered is there
			switch {
			case first[0] == 0x16:
				inner.give(tls.Server(b, appTLS()))
			case slices.Contains([]string{"GET ", "POST", "PUT ", "DELE", "HEAD", "PRI ", "PATC", "OPTI"}, string(first)):
				inner.give(b)
			default:
				_, _ = io.WriteString(c, p.Name+":") // a peer that is gone shows in the copy
				_, _ = io.Copy(c, b.r)
				_ = c.Close()
			}
		}()
	}
}

// greeter speaks first, as SMTP and MySQL do, and then echoes lines.
func greeter(p *Pod, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			fmt.Fprintf(c, "220 %s\n", p.Name)
			_, _ = io.Copy(c, c)
		}()
	}
}

// appTLS is the application's own certificate, of which the mesh knows nothing.
var appTLS = sync.OnceValue(func() *tls.Config {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return &tls.Config{Certificates: s.TLS.Certificates}
})

type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// connListener hands out connections that were accepted elsewhere.
type connListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

func (l *connListener) give(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.closed:
		_ = c.Close()
	}
}

func (l *connListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *connListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *connListener) Addr() net.Addr { return l.addr }

// echoHandler answers with what it was asked: pod, method, path and host as headers X-*, each header of the request as Saw-*, and
// the body. Request headers steer it:
//
//	do-status: 503     the status to answer with
//	do-fail: 2         the first so many attempts of a request id are answered with 503
//	do-delay: 2s       wait before the answer
//	do-reset: yes      reset instead of an answer
//	do-grpc-status: 5  the trailer of a gRPC answer
//	do-grpc-head-status: 14  an answer that is all head
//	do-fail-at: POD    that pod answers 503
//	remember: NAME     counts the request; the answer to recall: NAME has the number as X-Seen
type echoHandler struct {
	pod  *Pod
	mu   sync.Mutex
	seen map[string]int // by name, in this pod
}

// attempts of one request may reach different pods.
var attempts = struct {
	mu   sync.Mutex
	byID map[string]int
}{byID: map[string]int{}}

func (h *echoHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if websocket.IsWebSocketUpgrade(r) {
		h.webSocket(w, r)
		return
	}
	head := w.Header()
	for k, v := range r.Header {
		head["Saw-"+k] = v
	}
	id := r.Header.Get("X-Request-Id")
	attempts.mu.Lock()
	attempts.byID[id]++
	n := attempts.byID[id]
	attempts.mu.Unlock()
	h.mu.Lock()
	if name := r.Header.Get("Remember"); name != "" {
		h.seen[name]++
	}
	head.Set("X-Seen", strconv.Itoa(h.seen[r.Header.Get("Recall")]))
	h.mu.Unlock()
	if r.TLS != nil {
		head.Set("X-Tls", r.TLS.ServerName)
	}
	head.Set("X-Attempts", strconv.Itoa(n))
	head.Set("X-Pod", h.pod.Name)
	head.Set("X-Method", r.Method)
	head.Set("X-Path", r.RequestURI)
	head.Set("X-Host", r.Host)
	head.Set("X-Proto", r.Proto)
	if d, err := time.ParseDuration(r.Header.Get("Do-Delay")); err == nil {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
		}
	}
	if r.Header.Get("Do-Reset") != "" {
		panic(http.ErrAbortHandler)
	}
	status := http.StatusOK
	if s, err := strconv.Atoi(r.Header.Get("Do-Status")); err == nil {
		status = s
	}
	if f, err := strconv.Atoi(r.Header.Get("Do-Fail")); err == nil && n <= f {
		status = http.StatusServiceUnavailable
	}
	if r.Header.Get("Do-Fail-At") == h.pod.Name {
		status = http.StatusServiceUnavailable
	}
	if code := r.Header.Get("Do-Grpc-Head-Status"); code != "" {
		head.Set("Content-Type", "application/grpc")
		head.Set("Grpc-Status", code)
		w.WriteHeader(status)
		return
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		head.Set("Content-Type", "application/grpc")
		head.Set("Trailer", "Grpc-Status")
		w.WriteHeader(status)
		_, _ = io.Copy(w, r.Body) // a client that is gone needs no answer
		code := "0"
		if c := r.Header.Get("Do-Grpc-Status"); c != "" {
			code = c
		}
		head.Set("Grpc-Status", code)
		return
	}
	w.WriteHeader(status)
	if r.ContentLength == 0 {
		fmt.Fprintf(w, "hello from %s\n", h.pod.Name)
		return
	}
	_, _ = io.Copy(w, r.Body) // likewise
}

func (h *echoHandler) webSocket(w http.ResponseWriter, r *http.Request) {
	c, err := (&websocket.Upgrader{}).Upgrade(w, r, http.Header{"X-Pod": {h.pod.Name}})
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	for {
		kind, b, err := c.ReadMessage()
		if err != nil || c.WriteMessage(kind, b) != nil {
			return
		}
	}
}

// DialWebSocket opens a WebSocket to a path of authority.
func (p *Pod) DialWebSocket(ctx context.Context, authority, host, path string) (*websocket.Conn, *http.Response, error) {
	d := websocket.Dialer{NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return p.Tunnel(ctx, authority) }}
	return d.DialContext(ctx, "ws://"+host+path, nil)
}
