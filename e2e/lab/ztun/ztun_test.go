package ztun

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// mesh is a root that signs workloads, in the place of istiod.
type mesh struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	root *x509.Certificate
}

func newMesh(t *testing.T) *mesh {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &mesh{t, key, root}
}

func (m *mesh) identity(spiffe string) *Identity {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	id, err := url.Parse(spiffe)
	if err != nil {
		m.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		URIs: []*url.URL{id},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, m.root, key.Public(), m.key)
	if err != nil {
		m.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(m.root)
	return &Identity{SPIFFE: spiffe, Roots: roots, Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
}

const (
	clientID = "spiffe://cluster.local/ns/default/sa/client"
	serverID = "spiffe://cluster.local/ns/default/sa/server"
)

// serve runs an application and a Server in front of it, and returns the
// application's address and the HBONE one.
func serve(t *testing.T, m *mesh, handler http.HandlerFunc) (s *Server, application, hbone string) {
	app := httptest.NewServer(handler)
	t.Cleanup(app.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = &Server{IP: "127.0.0.1", Identity: m.identity(serverID), Dial: dial}
	done := make(chan error)
	go func() { done <- s.Serve(listener) }()
	t.Cleanup(func() {
		_ = listener.Close() // ends Serve
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, strings.TrimPrefix(app.URL, "http://"), listener.Addr().String()
}

func dial(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

func pool(t *testing.T, id *Identity, peer, hbone string) *Pool {
	p := &Pool{Identity: id, Peer: peer, Dial: dial,
		Address: func(context.Context) (string, error) { return hbone, nil }}
	t.Cleanup(p.Close)
	return p
}

func TestTunnelCarriesHTTP(t *testing.T) {
	m := newMesh(t)
	s, app, hbone := serve(t, m, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // shown in the answer
		_, _ = w.Write([]byte(r.Method + " " + string(body)))
	})
	p := pool(t, m.identity(clientID), serverID, hbone)
	for _, keep := range []bool{true, false} {
		client := p.HTTP(app, keep)
		for range 3 {
			answer, err := client.Post("http://any.host/x", "text/plain", strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			if err != nil || string(body) != "POST hello" {
				t.Fatalf("answer %q, %v", body, err)
			}
			_ = answer.Body.Close() // read to its end
		}
	}
	if peers := s.Peers(); len(peers) != 4 || peers[0] != clientID { // one kept tunnel, three short ones
		t.Errorf("the server saw %q", peers)
	}
	if _, all := p.Draining(); all != 1 {
		t.Errorf("%d connections for one client, want 1", all)
	}
}

func TestTunnelRefused(t *testing.T) {
	m := newMesh(t)
	_, _, hbone := serve(t, m, func(http.ResponseWriter, *http.Request) {})
	p := pool(t, m.identity(clientID), "", hbone)
	for authority, want := range map[string]StatusError{
		"127.0.0.2:80": 400, // not this workload
		"127.0.0.1:1":  503, // nobody there
	} {
		_, err := p.Connect(context.Background(), authority)
		var got StatusError
		if !errors.As(err, &got) || got != want {
			t.Errorf("CONNECT %s: %v, want %v", authority, err, want)
		}
	}
}

// Neither side talks to a stranger.
func TestIdentityIsChecked(t *testing.T) {
	m := newMesh(t)
	_, app, hbone := serve(t, m, func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := pool(t, m.identity(clientID), "spiffe://cluster.local/ns/default/sa/other", hbone).Connect(ctx, app); err == nil {
		t.Error("a server with the wrong identity was accepted")
	}
	stranger := newMesh(t).identity(clientID)
	if _, err := pool(t, stranger, "", hbone).Connect(ctx, app); err == nil {
		t.Error("a client and a server of different meshes have talked")
	}
	stranger.Roots = m.identity(clientID).Roots // now only the server can object
	if _, err := pool(t, stranger, "", hbone).Connect(ctx, app); err == nil {
		t.Error("the server accepted a client of another mesh")
	}
}

// After GOAWAY new tunnels take a new connection, and open ones go on.
func TestGoAway(t *testing.T) {
	m := newMesh(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	id := m.identity(serverID)
	// An echo through the tunnel, on a server that says GOAWAY after its first answer.
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusOK)
		flush := http.NewResponseController(w).Flush
		_ = flush() // the copy below finds out
		_, _ = io.Copy(flushing{w, flush}, r.Body)
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				secured := tls.Server(conn, id.tlsConfig(""))
				if err := secured.Handshake(); err != nil {
					t.Error(err)
					return
				}
				new(http2.Server).ServeConn(secured, &http2.ServeConnOpts{Handler: echo})
			}()
		}
	}()

	p := pool(t, m.identity(clientID), serverID, listener.Addr().String())
	held, err := p.Connect(context.Background(), "10.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if gone, all := p.Draining(); gone == 1 && all == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the GOAWAY was not noticed")
		}
	}
	other, err := p.Connect(context.Background(), "10.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	if _, all := p.Draining(); all != 2 {
		t.Errorf("%d connections, want 2", all)
	}
	for _, c := range []net.Conn{held, other} {
		buffer := make([]byte, 4)
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(c, buffer); err != nil || string(buffer) != "ping" {
			t.Errorf("echo %q, %v", buffer, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
