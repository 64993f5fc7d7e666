//go:build !race

// The race detector makes sync.Pool forget at random, so allocations are counted without it.

package h1

import (
	"io"
	"testing"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

const aRequest = "GET /productpage?u=test HTTP/1.1\r\nHost: productpage.bookinfo.svc.cluster.local:9080\r\n" +
	"User-Agent: curl/8.5.0\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\nX-Request-Id: 4f0a1b1e-6e1c-9d3f-8a51-3f1f9e1cb0c5\r\n" +
	"X-Forwarded-Proto: http\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\r\n"

const aResponse = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 100\r\nDate: Mon, 23 Nov 2026 18:00:00 GMT\r\n" +
	"Server: gunicorn\r\n\r\n"

// loop is a pair of connections on which the same exchange comes again and again.
type loop struct {
	server *ServerConn
	client *ClientConn
	down   *pollable
	up     *pollable
	get    []byte
	resp   []byte
	req    message.Head
	answer message.Head
	body   [200]byte
}

type pollable struct{ tape }

func (p *pollable) Readable() bool { return len(p.in) > 0 }

// Write forgets: the tape would grow for ever.
func (p *pollable) Write(b []byte) (int, error) { p.writes++; return len(b), nil }

func newLoop() *loop {
	l := &loop{down: &pollable{}, up: &pollable{}}
	l.server, l.client = NewServerConn(l.down, Options{}), NewClientConn(l.up, Options{})
	l.get = []byte(aRequest)
	l.resp = append([]byte(aResponse), make([]byte, 100)...)
	return l
}

func (l *loop) exchange(t testing.TB) {
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	l.down.in = l.get
	s, err := l.server.Next()
	fail(err)
	end, err := s.ReadHead(&l.req)
	fail(err)
	u := l.client.Stream()
	fail(u.WriteHead(&l.req, end))
	l.up.in = l.resp
	_, err = u.ReadHead(&l.answer)
	fail(err)
	l.answer.Fields.Set(header.Server, "istio-envoy")
	fail(s.WriteHead(&l.answer, false))
	for {
		n, err := u.Read(l.body[:])
		if err == io.EOF {
			break
		}
		fail(err)
		_, err = s.Write(l.body[:n])
		fail(err)
	}
	fail(s.CloseWrite(nil))
	if !l.server.Finish() || !l.client.Reusable() {
		t.Fatal("not kept")
	}
}

// One exchange, read and written on both sides, costs the string of each of its two heads.
func TestAllocations(t *testing.T) {
	l := newLoop()
	if n := testing.AllocsPerRun(1000, func() { l.exchange(t) }); n > 2 {
		t.Errorf("%v allocations for an exchange, want 2", n)
	}
	if l.up.writes != l.down.writes || l.up.writes < 1000 {
		t.Errorf("%d writes upstream, %d downstream", l.up.writes, l.down.writes)
	}
}

// BenchmarkExchange is a GET through both codecs: two heads parsed, two written, a body of 100 bytes.
func BenchmarkExchange(b *testing.B) {
	l := newLoop()
	b.ReportAllocs()
	for b.Loop() {
		l.exchange(b)
	}
}

func BenchmarkParseRequest(b *testing.B) {
	buf := getBuffer()
	lim := (&Options{}).limits()
	var h message.Head
	in := []byte(aRequest)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		h.Reset()
		if _, err := parseRequest(in, buf, &h, &lim); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkChunkedBody(b *testing.B) {
	one := append([]byte("1000\r\n"), make([]byte, 4096)...)
	one = append(one, "\r\n"...)
	body := []byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	for range 256 {
		body = append(body, one...)
	}
	body = append(body, "0\r\n\r\n"...)
	p := make([]byte, 32<<10)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		sc := NewServerConn(&tape{in: body}, Options{})
		s, _ := sc.Next()
		if _, err := s.ReadHead(&message.Head{}); err != nil {
			b.Fatal(err)
		}
		for {
			if _, err := s.Read(p); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}
