package h2

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"waypoint"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{certificate()}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519}, DynamicRecordSizingDisabled: true, SessionTicketsDisabled: true}
}

func clientTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13, DynamicRecordSizingDisabled: true}
}

// listen runs serve for each TLS connection that is accepted on loopback, and returns the address.
func listen(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", serverTLS())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go serve(nc)
		}
	}()
	return l.Addr().String()
}

// serveOurs runs our server and returns its address.
func serveOurs(t testing.TB, handler func(*Stream)) string {
	return listen(t, func(nc net.Conn) {
		c := NewServer(nc, Options{}, handler)
		t.Cleanup(func() { c.Close(nil) })
		_ = c.Serve()
	})
}

// dialOurs runs our client against a server.
func dialOurs(t testing.TB, addr string, o Options) *Conn {
	t.Helper()
	nc, err := tls.Dial("tcp", addr, clientTLS())
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(nc, o)
	go func() { _ = c.Serve() }()
	t.Cleanup(func() { c.Close(nil) })
	return c
}

func open(t testing.TB, c *Conn, h *message.Head, end bool) *Stream {
	t.Helper()
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteHead(h, end); err != nil {
		t.Fatal(err)
	}
	return s
}

func readHead(t testing.TB, s *Stream) (*message.Head, bool) {
	t.Helper()
	var h message.Head
	end, err := s.ReadHead(&h)
	if err != nil {
		t.Fatal(err)
	}
	return &h, end
}

func get(path string) *message.Head {
	return &message.Head{Method: "GET", Scheme: "https", Authority: "waypoint", Path: path}
}

func ok() *message.Head { return &message.Head{Status: 200} }

// echo answers 200 and sends back what comes, trailers included.
func echo(s *Stream) {
	var h message.Head
	if _, err := s.ReadHead(&h); err != nil {
		return
	}
	if err := s.WriteHead(ok(), false); err != nil {
		return
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := s.Read(buf)
		if _, werr := s.Write(buf[:n]); werr != nil {
			return
		}
		if err == io.EOF {
			_ = s.CloseWrite(s.Trailer())
			return
		}
		if err != nil {
			return
		}
	}
}

// eventually waits for what another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not happen: " + what)
		}
	}
}
