package node

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"
)

// app is the program of a pod: Istio's helloworld for HTTP, an echo of lines for anything else.
type app struct {
	version, instance string
	listener          net.Listener
	conns             *handed
	server            *http.Server
}

func newApp(p *manifests.Pod) (*app, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &app{instance: p.Name, listener: l, conns: &handed{conns: make(chan net.Conn), closed: make(chan struct{}), addr: l.Addr()}}
	_, a.version = p.Canonical()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	a.server = &http.Server{Handler: a, Protocols: protocols, ReadHeaderTimeout: time.Minute}
	go func() { _ = a.server.Serve(a.conns) }() // ends with close
	go a.accept()
	return a, nil
}

// is tells whether the program would be the same for a pod.
func (a *app) is(p *manifests.Pod) bool {
	_, version := p.Canonical()
	return a.instance == p.Name && a.version == version
}

func (a *app) addr() string { return a.listener.Addr().String() }

func (a *app) close() {
	_ = a.listener.Close()
	_ = a.server.Close()
}

func (a *app) accept() {
	for {
		c, err := a.listener.Accept()
		if err != nil {
			return
		}
		go a.serve(c)
	}
}

// serve hands a connection that begins like HTTP to the HTTP server, and echoes the lines of any other.
func (a *app) serve(c net.Conn) {
	r := bufio.NewReader(c)
	first, err := r.Peek(3)
	if err != nil {
		_ = c.Close() // closed without a word
		return
	}
	p := &peeked{Conn: c, r: r}
	for _, m := range []string{"GET", "HEA", "POS", "PUT", "DEL", "CON", "OPT", "TRA", "PAT", "PRI"} {
		if string(first) == m {
			a.conns.hand(p)
			return
		}
	}
	defer func() { _ = c.Close() }()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(c, "hello %s", line); err != nil {
			return
		}
	}
}

// InstanceHeader of each answer names the pod; the demo prints it.
const InstanceHeader = "X-Hello-Instance"

// ServeHTTP answers as Istio's helloworld does. On other paths than /hello it also says what it saw, to show what a route did.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(InstanceHeader, a.instance)
	fmt.Fprintf(w, "Hello version: %s, instance: %s\n", a.version, a.instance)
	if r.URL.Path == "/hello" {
		return
	}
	fmt.Fprintf(w, "%s %s\nhost: %s\n", r.Method, r.RequestURI, r.Host)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, v := range r.Header[name] {
			fmt.Fprintf(w, "%s: %s\n", name, v)
		}
	}
}

type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// handed is a listener for connections that somebody else accepted.
type handed struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

func (h *handed) hand(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		_ = c.Close()
	}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handed) Addr() net.Addr { return h.addr }
