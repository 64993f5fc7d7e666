package fake

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// httpClients are kept by client, address and protocol, and their connections with them.
type httpClients map[string]*http.Client

// do makes one request.
func (x *runner) do(r *request) (*outcome, error) {
	name := r.how["from"]
	if name == "" {
		name = "sleep"
	}
	from := x.m.Client(name)
	if r.method == "TCP" {
		return x.doTCP(r, from)
	}
	x.m.Istiod.mu.Lock()
	addr, err := x.m.Istiod.m.address(r.target)
	x.m.Istiod.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if r.method == "WS" {
		return doWebSocket(r, from, addr)
	}
	return x.doHTTP(r, from, addr)
}

func has(m map[string]string, k string) bool { _, ok := m[k]; return ok }

func (x *runner) doHTTP(r *request, from *Pod, addr string) (*outcome, error) {
	grpc := has(r.how, "grpc")
	h2, tlsInside := has(r.how, "h2") || grpc, has(r.how, "tls")
	key := fmt.Sprint(from.Name, from.Namespace, addr, h2, tlsInside)
	c := x.http[key]
	if c == nil || has(r.how, "new") {
		c = from.HTTP(addr, h2)
		c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true, ServerName: "app.example"} //nolint:gosec // the application's own certificate
		x.http[key] = c
	}
	host := r.how["host"]
	if host == "" {
		host, _, _ = strings.Cut(r.target, ":")
		host = strings.ReplaceAll(host, "/", "-")
	}
	scheme := "http://"
	if tlsInside {
		scheme = "https://"
	}
	path := r.path
	if path == "" {
		path = "/"
	}
	var body io.Reader
	if has(r.how, "body") {
		body = strings.NewReader(r.how["body"])
	}
	req, err := http.NewRequest(r.method, scheme+host+path, body)
	if err != nil {
		return nil, err
	}
	// The path as it stands, whatever net/url would make of it.
	if p, _, _ := strings.Cut(path, "?"); !grpc && req.URL.EscapedPath() != p {
		req.URL.Opaque = "//" + host + p
	}
	id := fmt.Sprintf("request-%d", requestIDs.Add(1))
	req.Header.Set("X-Request-Id", id)
	if grpc {
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
	}
	for _, h := range r.headers {
		req.Header.Add(h[0], h[1])
	}
	o := &outcome{id: id, values: map[string]string{}}
	resp, err := c.Do(req)
	var connect StatusError
	if errors.As(err, &connect) {
		o.values["no-tunnel"] = fmt.Sprint(int(connect))
		return o, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	o.values["status"] = fmt.Sprint(resp.StatusCode)
	o.values["body"] = string(b)
	o.values["pod"] = resp.Header.Get("X-Pod")
	for k := range resp.Header {
		o.values["header "+strings.ToLower(k)] = strings.Join(resp.Header.Values(k), ",")
	}
	o.values["grpc"] = resp.Header.Get("Grpc-Status") + resp.Trailer.Get("Grpc-Status")
	return o, nil
}

func doWebSocket(r *request, from *Pod, addr string) (*outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	host, _, _ := strings.Cut(r.target, ":")
	c, resp, err := from.DialWebSocket(ctx, addr, host, r.path)
	o := &outcome{values: map[string]string{}}
	if resp != nil {
		o.values["status"] = fmt.Sprint(resp.StatusCode)
		o.values["pod"] = resp.Header.Get("X-Pod")
		_ = resp.Body.Close()
	}
	if err != nil {
		if errors.Is(err, websocket.ErrBadHandshake) {
			return o, nil
		}
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if err := c.WriteMessage(websocket.TextMessage, []byte(r.how["send"])); err != nil {
		return nil, err
	}
	_, b, err := c.ReadMessage()
	o.values["recv"] = string(b)
	return o, err
}

// session is a TCP connection that stays open.
type session struct {
	net.Conn
	r *bufio.Reader
}

func (x *runner) doTCP(r *request, from *Pod) (*outcome, error) {
	o := &outcome{values: map[string]string{}}
	s := x.tcp[r.target]
	if s == nil {
		addr, err := x.m.Istiod.m.address(r.target)
		if err != nil {
			return nil, err
		}
		c, err := from.Tunnel(context.Background(), addr)
		var connect StatusError
		if errors.As(err, &connect) {
			o.values["no-tunnel"] = fmt.Sprint(int(connect))
			return o, nil
		}
		if err != nil { // reset so soon after the 200 that it was not seen
			o.values["closed"] = "yes"
			return o, nil
		}
		s = &session{c, bufio.NewReader(c)}
		if has(r.how, "as") {
			x.tcp[r.how["as"]] = s
		} else {
			defer func() { _ = c.Close() }()
		}
	}
	if has(r.how, "send") {
		if _, err := io.WriteString(s, r.how["send"]); err != nil {
			o.values["recv"] = "write: " + err.Error()
		}
	}
	if has(r.how, "end") {
		_ = s.Conn.(*tunnel).CloseWrite() // an error shows in what is read
	}
	want := 1
	for _, e := range r.want {
		if e.key == "recv" {
			want = max(1, len(strings.Split(e.value, "|")[0]))
		}
	}
	got := make(chan error, 1)
	b := make([]byte, want)
	var n int
	go func() {
		var err error
		n, err = io.ReadFull(s.r, b)
		got <- err
	}()
	limit := 5 * time.Second
	for _, e := range r.want {
		if e.key == "recv" && e.value == "" {
			limit = 300 * time.Millisecond
		}
	}
	select {
	case err := <-got:
		o.values["recv"] = string(b[:n])
		if err != nil && n == 0 {
			o.values["closed"] = "yes"
			o.values["recv"] = "closed: " + err.Error()
		}
	case <-time.After(limit):
		o.values["recv"] = ""
	}
	return o, nil
}
