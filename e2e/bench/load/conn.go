package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// Patience is how long one request may take. It is far above any answer of a proxy that is merely slow.
const Patience = 30 * time.Second

// Target is a proxy and what is asked of it.
type Target struct {
	Addr      string      // of the HBONE port
	TLS       *tls.Config // the client's
	Authority string      // in CONNECT: VIP:port
	Local     net.Addr    // the client's address; nil: any
	Service   string      // the Host of the requests
}

// options of an HBONE client as ztunnel sets them (observed).
func options() h2.Options {
	return h2.Options{
		InitialWindow: 4 << 20, ConnWindow: 16 << 20, MaxFrameSize: 1 << 20, MaxHeaderListSize: 16 << 10,
		KeepaliveInterval: 10 * time.Second, Logger: slog.Default(),
	}
}

// Conn is an HBONE connection.
type Conn struct {
	target Target
	h2     *h2.Conn
}

// Dial connects to the proxy.
func Dial(ctx context.Context, t Target) (*Conn, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: t.Local}, Config: t.TLS}
	raw, err := d.DialContext(ctx, "tcp", t.Addr)
	if err != nil {
		return nil, err
	}
	c := &Conn{target: t, h2: h2.NewClient(raw, options())}
	go func() { _ = c.h2.Serve() }() // its streams tell what went wrong
	return c, nil
}

// Close ends the connection and its tunnels.
func (c *Conn) Close() {
	c.h2.Close(nil)
	<-c.h2.Done()
}

// Tunnel opens a tunnel, with the headers that ztunnel sends with CONNECT.
func (c *Conn) Tunnel() (*Tunnel, error) {
	s, err := c.h2.Open()
	if err != nil {
		return nil, err
	}
	h := message.Head{Method: "CONNECT", Authority: c.target.Authority}
	h.Fields.Append("baggage", "k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=client,service.name=client,service.version=v1")
	h.Fields.Append("forwarded", `for="10.244.0.9:41234";host=`+c.target.Service)
	h.Fields.Append("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
	if err := s.WriteHead(&h, false); err != nil {
		return nil, err
	}
	for {
		end, err := s.ReadHead(&h)
		if err != nil {
			return nil, fmt.Errorf("CONNECT %s: %w", c.target.Authority, err)
		}
		if h.Informational() {
			continue
		}
		if h.Status != 200 || end {
			s.Reset(message.Cancel)
			return nil, fmt.Errorf("CONNECT %s: status %d", c.target.Authority, h.Status)
		}
		return &Tunnel{s: s}, nil
	}
}

// Request is an HTTP/1.1 request and the answer that it must get.
type Request struct {
	Bytes  []byte
	Status int
	Length int64
	// Body is what the answer must contain; nil: only its length is checked.
	Body []byte
	// Rate bounds how fast the body is read, in bytes per second; 0: no bound.
	Rate int64
}

// Get is a GET of path that must be answered with 200 and so many bytes.
func (t Target) Get(path string, length int64) *Request {
	return t.request("GET", path, 200, length, nil)
}

// Refused is a POST that policy must refuse in Envoy's words.
func (t Target) Refused(path string) *Request {
	const body = "RBAC: access denied"
	return t.request("POST", path, 403, int64(len(body)), []byte(body))
}

func (t Target) request(method, path string, status int, length int64, body []byte) *Request {
	length0 := ""
	if method == "POST" {
		length0 = "content-length: 0\r\n"
	}
	return &Request{
		Bytes:  fmt.Appendf(nil, "%s %s HTTP/1.1\r\nhost: %s\r\nuser-agent: bench\r\naccept: */*\r\n%s\r\n", method, path, t.Service, length0),
		Status: status, Length: length, Body: body,
	}
}

// Tunnel is a tunnel with an HTTP/1.1 connection inside. One goroutine uses it.
type Tunnel struct {
	s   *h2.Stream
	buf []byte
}

// headLimit is more than any proxy's answer needs.
const headLimit = 2048

// Do sends a request and takes the whole answer.
func (t *Tunnel) Do(r *Request) error {
	if _, err := t.s.Write(r.Bytes); err != nil {
		return err
	}
	if t.buf == nil {
		t.buf = make([]byte, headLimit)
	}
	have, end := 0, -1
	for end < 0 {
		if have == len(t.buf) {
			return fmt.Errorf("an answer's head of more than %d bytes", headLimit)
		}
		n, err := t.s.Read(t.buf[have:])
		have += n
		if err != nil {
			return fmt.Errorf("within the answer's head %q: %w", t.buf[:have], noEOF(err))
		}
		end = bytes.Index(t.buf[:have], crlfcrlf)
	}
	status, length, err := parseHead(t.buf[:end])
	if err != nil {
		return err
	}
	body := t.buf[end+len(crlfcrlf) : have]
	if status != r.Status || length != r.Length {
		return fmt.Errorf("answer %d with %d bytes, want %d with %d: %q", status, length, r.Status, r.Length, t.buf[:have])
	}
	return t.body(r, body)
}

// body takes the rest of the answer, of which first has come already.
func (t *Tunnel) body(r *Request, first []byte) error {
	if int64(len(first)) > r.Length {
		return fmt.Errorf("%d bytes after the answer's end", int64(len(first))-r.Length)
	}
	if r.Body != nil {
		got := bytes.Clone(first)
		rest := make([]byte, r.Length-int64(len(first)))
		if _, err := io.ReadFull(t.s, rest); err != nil {
			return fmt.Errorf("within the answer's body: %w", noEOF(err))
		}
		if got = append(got, rest...); !bytes.Equal(got, r.Body) {
			return fmt.Errorf("answer %q, want %q", got, r.Body)
		}
		return nil
	}
	left := r.Length - int64(len(first))
	buf := t.buf
	if left > int64(len(buf)) {
		buf = make([]byte, 64<<10)
	}
	began := time.Now()
	for left > 0 {
		n, err := t.s.Read(buf[:min(left, int64(len(buf)))])
		left -= int64(n)
		if err != nil {
			return fmt.Errorf("%d bytes before the answer's end: %w", left, noEOF(err))
		}
		if r.Rate > 0 {
			due := time.Duration(float64(r.Length-left) / float64(r.Rate) * float64(time.Second))
			time.Sleep(due - time.Since(began))
		}
	}
	return nil
}

// Close ends the tunnel as a client does that has had its answer, and waits for the proxy to end it too.
func (t *Tunnel) Close() error {
	if err := t.s.CloseWrite(nil); err != nil {
		return err
	}
	var b [1]byte
	switch n, err := t.s.Read(b[:]); {
	case n > 0:
		return errors.New("bytes after the last answer")
	case errors.Is(err, io.EOF):
		return nil
	default:
		var reset *message.ResetError
		if errors.As(err, &reset) && reset.Remote && (reset.Code == message.NoError || reset.Code == message.Cancel) {
			return nil // ended by the proxy: nothing was under way any more
		}
		return err
	}
}

// Reset gives the tunnel up.
func (t *Tunnel) Reset() { t.s.Reset(message.Cancel) }

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

var (
	crlfcrlf      = []byte("\r\n\r\n")
	contentLength = []byte("content-length:")
)

// parseHead reads status and content-length of a head, which is all that is needed.
func parseHead(h []byte) (status int, length int64, err error) {
	line, rest, _ := bytes.Cut(h, crlfcrlf[:2])
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, 0, fmt.Errorf("status line %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, fmt.Errorf("status line %q", line)
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, crlfcrlf[:2])
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			length, err = strconv.ParseInt(string(bytes.TrimSpace(line[len(contentLength):])), 10, 64)
			return status, length, err
		}
	}
	return 0, 0, fmt.Errorf("no content-length in %q", h)
}
