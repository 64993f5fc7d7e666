package hbone_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/hbone"
	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"test"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serve runs an acceptor whose streams handler answers.
func serve(t *testing.T, handler func(*h2.Stream, *message.Head)) (addr string, a *hbone.Acceptor) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{"h2"}}
	a = &hbone.Acceptor{
		TLS: func() (*tls.Config, error) { return cfg, nil }, H2: func() h2.Options { return h2.Options{} }, Logger: slog.Default(),
		Handler: func(s *h2.Stream, _ *hbone.Conn) {
			var h message.Head
			if _, err := s.ReadHead(&h); err == nil {
				handler(s, &h)
			}
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() { _ = a.Serve(ctx, l) }()
	t.Cleanup(a.Close)
	return l.Addr().String(), a
}

func dial(t *testing.T, addr string) *h2.Conn {
	t.Helper()
	raw, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	c := h2.NewClient(raw, h2.Options{})
	go func() { _ = c.Serve() }()
	t.Cleanup(func() { c.Close(nil) })
	return c
}

func connect(t *testing.T, c *h2.Conn, authority string, fields ...header.Field) (message.Conn, error) {
	t.Helper()
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return hbone.Connect(ctx, s, authority, fields, false)
}

func echo(s *h2.Stream) {
	if s.WriteHead(&message.Head{Status: 200}, false) != nil || s.Flush() != nil {
		return
	}
	t := s.Tunnel()
	_, _ = io.Copy(t, t)
	_ = t.CloseWrite()
}

func TestConnect(t *testing.T) {
	addr, a := serve(t, func(s *h2.Stream, h *message.Head) {
		switch {
		case h.Method != "CONNECT" || h.Path != "" || h.Scheme != "":
			_ = s.WriteHead(&message.Head{Status: 400}, true)
		case h.Authority == "10.0.0.1:401":
			_ = s.WriteHead(&message.Head{Status: 401}, true)
		case h.Authority == "10.0.0.1:1":
			<-make(chan struct{}) // ztunnel knows no timeout either
		case h.Authority == "10.0.0.1:2" && h.Fields.Value(header.Baggage) != "k=v":
			_ = s.WriteHead(&message.Head{Status: 503}, true)
		default:
			echo(s)
		}
	})
	c := dial(t, addr)
	conn, err := connect(t, c, "10.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); string(b) != "hello" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	if _, err := connect(t, c, "10.0.0.1:2", header.Field{Name: "baggage", Value: "k=v"}); err != nil {
		t.Errorf("with a header: %v", err)
	}
	var status *hbone.StatusError
	if _, err := connect(t, c, "10.0.0.1:401"); !errors.As(err, &status) || status.Status != 401 {
		t.Errorf("refused: %v", err)
	}
	if _, err := connect(t, c, "10.0.0.1:1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: %v", err)
	}
	if n := a.Stats.Active.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TLS runs inside a tunnel, as a DestinationRule may ask for, and a handshake that nobody answers ends with its context.
func TestTLSInsideATunnel(t *testing.T) {
	inner := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	addr, _ := serve(t, func(s *h2.Stream, h *message.Head) {
		if s.WriteHead(&message.Head{Status: 200}, false) != nil || s.Flush() != nil {
			return
		}
		if h.Authority == "10.0.0.1:1" {
			_, _ = io.Copy(io.Discard, s)
			return
		}
		c := tls.Server(hbone.NetConn(s.Tunnel()), inner)
		_, _ = io.Copy(c, c)
		_ = c.Close()
	})
	c := dial(t, addr)
	conn, err := connect(t, c, "10.0.0.1:443")
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(hbone.NetConn(conn), &tls.Config{InsecureSkipVerify: true})
	if _, err := secure.Write([]byte("secret")); err != nil {
		t.Fatal(err)
	}
	up := hbone.FromNetConn(secure)
	if err := up.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(up); string(b) != "secret" || err != nil {
		t.Errorf("%q %v", b, err)
	}

	silent, err := connect(t, c, "10.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := tls.Client(hbone.NetConn(silent), &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx); err == nil {
		t.Error("a handshake with nobody succeeded")
	}
}

// A TCP connection tells whether it can carry another request: not when bytes came unasked, nor at its end.
func TestReadable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn := hbone.FromNetConn(client).(interface {
		message.Conn
		Readable() bool
	})
	if conn.Readable() {
		t.Error("nothing came")
	}
	becomes := func(what string) {
		t.Helper()
		for end := time.Now().Add(2 * time.Second); !conn.Readable(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what + " is not noticed")
			}
		}
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	becomes("a byte")
	if _, err := conn.Read(make([]byte, 1)); err != nil || conn.Readable() {
		t.Errorf("after it was read: %v", err)
	}
	_ = server.Close()
	becomes("the end")
}

// Drain reaches the connections that are there and those that come later; streams in flight finish.
func TestDrain(t *testing.T) {
	addr, a := serve(t, func(s *h2.Stream, _ *message.Head) { echo(s) })
	c := dial(t, addr)
	conn, err := connect(t, c, "10.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	a.Drain(0)
	for end := time.Now().Add(2 * time.Second); c.CanOpen(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no GOAWAY")
		}
	}
	if _, err := conn.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	_ = conn.CloseWrite()
	if b, err := io.ReadAll(conn); string(b) != "still here" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	select {
	case <-c.Done():
	case <-time.After(3 * time.Second):
		t.Error("the connection does not end with its last stream")
	}
}
