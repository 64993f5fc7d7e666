// Package backend is the destination node of a measurement: it answers HBONE tunnels and HTTP/1.1 inside them, as a ztunnel and
// an application behind it would, at the lowest cost that Go allows: the load and the backend share a processor, and what they
// do not use is what the proxy's clients can offer.
//
//	GET /           200 with 500 bytes
//	GET /bytes/<n>  200 with n bytes
//
// It is not an HTTP server for anything else: a request that it does not know ends the tunnel with a reset.
package backend

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/hbone"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// BodyLength is the length of the usual answer in bytes.
const BodyLength = 500

// Options of an HBONE server as ztunnel sets them (observed). A stream beyond the limit is refused and counts as reset; ztunnel
// refuses any number of them, and Envoy does send many in a burst before it has seen the SETTINGS.
func Options() h2.Options {
	return h2.Options{
		MaxConcurrentStreams: 200, InitialWindow: 4 << 20, ConnWindow: 16 << 20, MaxFrameSize: 1 << 20, MaxHeaderListSize: 64 << 10,
		KeepaliveInterval: 10 * time.Second, Limits: h2.Limits{ResetBurst: 1 << 30},
	}
}

// Server is the destination node.
type Server struct {
	listener  net.Listener
	acceptor  *hbone.Acceptor
	authority string
	cancel    context.CancelFunc
	done      chan struct{}

	requests, tunnels, conns atomic.Int64
	failure                  atomic.Pointer[error]
}

// Start listens on addr (ip:15008). authority is the only one that CONNECT may name: ztunnel refuses any other.
func Start(addr, authority string, config *tls.Config) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{listener: l, authority: authority, cancel: cancel, done: make(chan struct{})}
	s.acceptor = &hbone.Acceptor{
		TLS: func() (*tls.Config, error) { return config, nil }, H2: Options,
		Handler: func(st *h2.Stream, _ *hbone.Conn) { s.serve(st) },
		Opened:  func(*hbone.Conn) { s.conns.Add(1) },
		Logger:  slog.Default(),
	}
	go func() {
		defer close(s.done)
		_ = s.acceptor.Serve(ctx, l) // ends with Close
	}()
	return s, nil
}

// Close ends all connections and waits for the listener.
func (s *Server) Close() {
	s.cancel()
	<-s.done
	s.acceptor.Close()
}

// Requests is the number of requests inside tunnels since Start.
func (s *Server) Requests() int64 { return s.requests.Load() }

// Tunnels is the number of CONNECTs that were answered with 200.
func (s *Server) Tunnels() int64 { return s.tunnels.Load() }

// Connections is the number of HBONE connections that were accepted.
func (s *Server) Connections() int64 { return s.conns.Load() }

// Err is the first request that was not what the proxy should have sent; nil if there was none.
func (s *Server) Err() error {
	if e := s.failure.Load(); e != nil {
		return *e
	}
	return nil
}

func (s *Server) fail(st *h2.Stream, err error) {
	s.failure.CompareAndSwap(nil, &err)
	st.Reset(message.ProtocolError)
}

func (s *Server) serve(st *h2.Stream) {
	var h message.Head
	if _, err := st.ReadHead(&h); err != nil {
		return // the client has gone
	}
	if h.Method != http.MethodConnect || h.Authority != s.authority {
		s.fail(st, fmt.Errorf("%s %s: want CONNECT %s", h.Method, h.Authority, s.authority))
		return
	}
	if st.WriteHead(&message.Head{Status: 200}, false) != nil {
		return
	}
	s.tunnels.Add(1)
	s.answer(st)
}

// requestLimit is more than any proxy makes of the load's requests.
const requestLimit = 2048

// answer serves one request after the other until the client ends.
func (s *Server) answer(st *h2.Stream) {
	buf := make([]byte, requestLimit)
	have := 0
	for {
		end := bytes.Index(buf[:have], crlfcrlf)
		if end < 0 {
			if have == len(buf) {
				s.fail(st, errors.New("a request head of more than 2 KiB"))
				return
			}
			n, err := st.Read(buf[have:])
			have += n
			if err != nil {
				if errors.Is(err, io.EOF) && have > 0 {
					s.fail(st, fmt.Errorf("a tunnel ended within a request: %q", buf[:have]))
				} else if errors.Is(err, io.EOF) {
					_ = st.CloseWrite(nil) // the peer may have gone
				} else {
					slog.Debug("a tunnel ended", "error", err)
				}
				return
			}
			continue
		}
		if err := s.respond(st, buf[:end]); err != nil {
			return
		}
		have = copy(buf, buf[end+len(crlfcrlf):have])
	}
}

var (
	crlfcrlf = []byte("\r\n\r\n")
	getRoot  = []byte("GET / HTTP/1.1\r\n")
	getBytes = []byte("GET /bytes/")
	usual    = append(head(BodyLength), bytes.Repeat([]byte("x"), BodyLength)...)
	chunk    = bytes.Repeat([]byte("x"), 64<<10)
)

func head(length int64) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n", length)
}

func (s *Server) respond(st *h2.Stream, request []byte) error {
	s.requests.Add(1)
	if bytes.HasPrefix(request, getRoot) {
		_, err := st.Write(usual)
		return err
	}
	if rest, ok := bytes.CutPrefix(request, getBytes); ok {
		digits, _, _ := bytes.Cut(rest, []byte(" "))
		if n, err := strconv.ParseInt(string(digits), 10, 64); err == nil && n >= 0 {
			return writeBytes(st, n)
		}
	}
	err := fmt.Errorf("unexpected request %q", request)
	s.fail(st, err)
	return err
}

func writeBytes(st *h2.Stream, n int64) error {
	if _, err := st.Write(head(n)); err != nil {
		return err
	}
	for n > 0 {
		k, err := st.Write(chunk[:min(n, int64(len(chunk)))])
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}

// Addr is the address that it listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }
