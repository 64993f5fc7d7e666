package h1

import (
	"errors"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// fields makes header fields of "name: value" lines.
func fields(lines ...string) (f header.Fields) {
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		f.Append(name, value)
	}
	return f
}

// exchangeOn serves one request that is on tape.
func exchangeOn(t testing.TB, c *tape, o Options) (*ServerConn, message.Stream, *message.Head) {
	t.Helper()
	sc := NewServerConn(c, o)
	s, err := sc.Next()
	if err != nil {
		t.Fatal(err)
	}
	h := &message.Head{}
	if _, err = s.ReadHead(h); err != nil {
		t.Fatal(err)
	}
	return sc, s, h
}

func TestResponsesOnTheWire(t *testing.T) {
	get := "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, c := range []struct {
		name, request string
		o             Options
		head          message.Head
		end           bool
		body          []string
		trailer       header.Fields
		want          string
		writes        int
		keep          bool
	}{
		{name: "head and small body leave in one write", request: get,
			head: message.Head{Status: 200, Fields: fields("content-length: 5", "server: x")}, body: []string{"hello"},
			want: "HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 5\r\n\r\nhello", writes: 1, keep: true},
		{name: "chunked", request: get, head: message.Head{Status: 200}, body: []string{"hello", "", ", you"},
			want:   "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\n, you\r\n0\r\n\r\n",
			writes: 3, keep: true},
		{name: "chunked without a body", request: get, head: message.Head{Status: 200}, body: []string{},
			want: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", writes: 1, keep: true},
		{name: "trailers are dropped", request: get, head: message.Head{Status: 200}, body: []string{"x"},
			trailer: fields("grpc-status: 0"),
			want:    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", writes: 2, keep: true},
		{name: "trailers pass when enabled", request: get, o: Options{EnableTrailers: true}, head: message.Head{Status: 200},
			body: []string{"x"}, trailer: fields("grpc-status: 0", "content-length: 1"),
			want:   "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\ngrpc-status: 0\r\n\r\n",
			writes: 2, keep: true},
		{name: "no body", request: get, head: message.Head{Status: 404}, end: true,
			want: "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", writes: 1, keep: true},
		{name: "204 has no length", request: get, head: message.Head{Status: 204, Fields: fields("content-length: 0")}, end: true,
			want: "HTTP/1.1 204 No Content\r\n\r\n", writes: 1, keep: true},
		{name: "304 says what a 200 would", request: get, head: message.Head{Status: 304, Fields: fields("content-length: 9")},
			end: true, want: "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", writes: 1, keep: true},
		{name: "HEAD: the body of a local reply is dropped", request: "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
			head: message.Head{Status: 403, Fields: fields("content-length: 4")}, body: []string{"nope"},
			want: "HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\n", writes: 1, keep: true},
		{name: "a status nobody knows", request: get, head: message.Head{Status: 299}, end: true,
			want: "HTTP/1.1 299 Unknown\r\ncontent-length: 0\r\n\r\n", writes: 1, keep: true},
		{name: "the client said close", request: "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
			head: message.Head{Status: 200}, end: true,
			want: "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", writes: 1},
		{name: "HTTP/1.0 ends with the connection", request: "GET / HTTP/1.0\r\nHost: a\r\n\r\n", o: Options{AcceptHTTP10: true},
			head: message.Head{Status: 200}, body: []string{"a", "b"}, trailer: fields("x: y"),
			want: "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nab", writes: 2},
		{name: "hop-by-hop fields are not taken from a head", request: get,
			head: message.Head{Status: 200, Fields: fields("connection: x", "keep-alive: 1", "proxy-connection: x",
				"transfer-encoding: gzip", "upgrade: h2c", "te: gzip", "host: z")}, end: true,
			want: "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", writes: 1, keep: true},
		{name: "an unanswered Expect closes", end: true, head: message.Head{Status: 403},
			request: "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
			want:    "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", writes: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			wire := &tape{in: []byte(c.request)}
			sc, s, _ := exchangeOn(t, wire, c.o)
			if err := s.WriteHead(&c.head, c.end); err != nil {
				t.Fatal(err)
			}
			for _, b := range c.body {
				if n, err := s.Write([]byte(b)); err != nil || n != len(b) {
					t.Fatal(n, err)
				}
			}
			if !c.end {
				tr := &c.trailer
				if tr.Len() == 0 {
					tr = nil
				}
				if err := s.CloseWrite(tr); err != nil {
					t.Fatal(err)
				}
			}
			if got := string(wire.out); got != c.want || wire.writes != c.writes {
				t.Errorf("%d writes:\n%q, want %d:\n%q", wire.writes, got, c.writes, c.want)
			}
			if keep := sc.Finish(); keep != c.keep || keep == wire.ended {
				t.Errorf("kept %v, want %v; closed %v", keep, c.keep, wire.ended)
			}
		})
	}
}

func TestRequestsOnTheWire(t *testing.T) {
	for _, c := range []struct {
		name string
		head message.Head
		end  bool
		body string
		want string
	}{
		{name: "GET", end: true, head: message.Head{Method: "GET", Path: "/x", Authority: "a:1", Fields: fields("x: 1", "te: trailers")},
			want: "GET /x HTTP/1.1\r\nhost: a:1\r\nx: 1\r\nte: trailers\r\n\r\n"},
		{name: "POST without a body says so", end: true, head: message.Head{Method: "POST", Path: "/", Authority: "a"},
			want: "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"},
		{name: "with a length", head: message.Head{Method: "PUT", Path: "/", Authority: "a", Fields: fields("content-length: 2")},
			body: "hi", want: "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"},
		{name: "without", head: message.Head{Method: "GET", Path: "/", Authority: "a"}, body: "hi",
			want: "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"},
		{name: "OPTIONS *", end: true, head: message.Head{Method: "OPTIONS", Path: "*", Authority: "a"},
			want: "OPTIONS * HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"},
		{name: "CONNECT", end: true, head: message.Head{Method: "CONNECT", Authority: "a:1"},
			want: "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"},
		{name: "upgrade", head: message.Head{Method: "GET", Path: "/", Authority: "a", Upgrade: "websocket"},
			want: "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"},
		{name: "a head that asks for a 100 does not wait", head: message.Head{Method: "PUT", Path: "/", Authority: "a",
			Fields: fields("expect: 100-continue", "content-length: 2")},
			want: "PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"},
		{name: "extended CONNECT", head: message.Head{Method: "CONNECT", Path: "/", Authority: "a", Upgrade: "websocket"},
			want: "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wire := &tape{}
			s := NewClientConn(wire, Options{}).Stream()
			if err := s.WriteHead(&c.head, c.end); err != nil {
				t.Fatal(err)
			}
			if c.body != "" {
				if _, err := s.Write([]byte(c.body)); err != nil {
					t.Fatal(err)
				}
				if err := s.CloseWrite(nil); err != nil {
					t.Fatal(err)
				}
			}
			if got := string(wire.out); got != c.want {
				t.Errorf("%q, want\n%q", got, c.want)
			}
		})
	}
}

// Nothing that a filter, an HTTP/2 peer or the config puts into a head breaks out of its place.
func TestInjectionIsNotSent(t *testing.T) {
	for name, h := range map[string]message.Head{
		"CRLF in a value":       {Method: "GET", Path: "/", Authority: "a", Fields: fields("x: a\r\nhost: b")},
		"LF in a value":         {Method: "GET", Path: "/", Authority: "a", Fields: fields("x: a\nb: c")},
		"CR in a value":         {Method: "GET", Path: "/", Authority: "a", Fields: fields("x: a\rb")},
		"NUL in a value":        {Method: "GET", Path: "/", Authority: "a", Fields: fields("x: a\x00b")},
		"space in a name":       {Method: "GET", Path: "/", Authority: "a", Fields: fields("transfer-encoding : chunked")},
		"upper case in a name":  {Method: "GET", Path: "/", Authority: "a", Fields: fields("Transfer-Encoding: chunked")},
		"empty name":            {Method: "GET", Path: "/", Authority: "a", Fields: fields(": x")},
		"space in the path":     {Method: "GET", Path: "/ HTTP/1.1", Authority: "a"},
		"CRLF in the path":      {Method: "GET", Path: "/\r\nx: y", Authority: "a"},
		"no path":               {Method: "GET", Authority: "a"},
		"CRLF in the authority": {Method: "GET", Path: "/", Authority: "a\r\nx: y"},
		"no authority":          {Method: "GET", Path: "/"},
		"space in the method":   {Method: "GET /admin HTTP/1.1\r\nx:", Path: "/", Authority: "a"},
		"CRLF in the upgrade":   {Method: "GET", Path: "/", Authority: "a", Upgrade: "x\r\ny: z"},
		"two lengths":           {Method: "GET", Path: "/", Authority: "a", Fields: fields("content-length: 1", "content-length: 2")},
		"length with a sign":    {Method: "GET", Path: "/", Authority: "a", Fields: fields("content-length: +1")},
	} {
		wire := &tape{}
		s := NewClientConn(wire, Options{}).Stream()
		if err := s.WriteHead(&h, false); !errors.Is(err, errHead) || wire.reset || len(wire.out) > 0 {
			t.Errorf("%s as a request: %v, reset %v, sent %q", name, err, wire.reset, wire.out)
		}
		if h.Fields.Len() == 0 {
			continue
		}
		h.Status = 200
		wire = &tape{in: []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")}
		_, server, _ := exchangeOn(t, wire, Options{})
		if err := server.WriteHead(&h, false); !errors.Is(err, errHead) || wire.reset || len(wire.out) > 0 {
			t.Errorf("%s as a response: %v, reset %v, sent %q", name, err, wire.reset, wire.out)
		}
		if err := server.WriteHead(&message.Head{Status: 502}, true); err != nil || len(wire.out) == 0 {
			t.Errorf("%s: no answer can take its place: %v", name, err)
		}
	}
}

// The peer must notice when a body is not what its head declared.
func TestContentLengthIsKept(t *testing.T) {
	start := func() (*tape, *ServerConn, message.Stream) {
		wire := &tape{in: []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")}
		sc, s, _ := exchangeOn(t, wire, Options{})
		if err := s.WriteHead(&message.Head{Status: 200, Fields: fields("content-length: 5")}, false); err != nil {
			t.Fatal(err)
		}
		return wire, sc, s
	}
	wire, sc, s := start()
	if _, err := s.Write([]byte("too long")); !errors.Is(err, errTooLong) || !wire.reset || sc.Finish() {
		t.Error("too long:", err, wire.reset)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("write after the error succeeded")
	}
	wire, sc, s = start()
	if _, err := s.Write([]byte("shor")); err != nil {
		t.Error(err)
	}
	if err := s.CloseWrite(nil); !errors.Is(err, errTooShort) || !wire.reset || sc.Finish() {
		t.Error("too short:", err, wire.reset)
	}
	wire, sc, _ = start()
	if sc.Finish() || !wire.reset {
		t.Error("an unfinished response must reset the connection")
	}
	wire = &tape{in: []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")}
	_, s, _ = exchangeOn(t, wire, Options{})
	if err := s.WriteHead(&message.Head{Status: 200, Fields: fields("content-length: 5")}, true); !errors.Is(err, errTooShort) {
		t.Error("end with a length:", err)
	}
}

func TestBigWritesPassThrough(t *testing.T) {
	wire := &tape{in: []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")}
	_, s, _ := exchangeOn(t, wire, Options{})
	big := strings.Repeat("x", copyLimit+1)
	if err := s.WriteHead(&message.Head{Status: 200}, false); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Write([]byte(big)); n != len(big) || err != nil {
		t.Fatal(n, err)
	}
	if err := s.CloseWrite(nil); err != nil {
		t.Fatal(err)
	}
	want := "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1001\r\n" + big + "\r\n0\r\n\r\n"
	if string(wire.out) != want || wire.writes != 4 {
		t.Errorf("%d writes, %d bytes", wire.writes, len(wire.out))
	}
}

func TestInformationalHeads(t *testing.T) {
	wire := &tape{in: []byte("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")}
	sc, s, _ := exchangeOn(t, wire, Options{})
	for _, status := range []int{100, 103} {
		if err := s.WriteHead(&message.Head{Status: status, Fields: fields("link: x")}, false); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(wire.out); got != "HTTP/1.1 100 Continue\r\nlink: x\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" {
		t.Errorf("%q", got) // both have left at once
	}
	if err := s.WriteHead(&message.Head{Status: 200}, true); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteHead(&message.Head{Status: 200}, true); !errors.Is(err, errTwoHeads) {
		t.Error("second final head:", err)
	}
	if !sc.Finish() {
		t.Error("after a 100 the body comes, so the connection is kept")
	}
}
