package hbone

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

func serverConfig(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13}
}

// tlsPair is a TLS connection over real sockets.
func tlsPair(t *testing.T) (server, client *TLSConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client = TLSClient(raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}) //nolint:gosec // whom it talks to is not the question
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server = TLSServer(accepted, serverConfig(t))
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = server.Close(), client.Close() })
	return server, client
}

// What is written arrives whole and in order, whatever the sizes, in both directions at once.
func TestRecordsArriveInOrder(t *testing.T) {
	server, client := tlsPair(t)
	sizes := []int{1, maxRecord, maxRecord + 1, 3 * maxRecord, joinUpTo - 1, joinUpTo, joinUpTo + 1, 5*joinUpTo + 7, 10}
	var want bytes.Buffer
	for i, n := range sizes {
		want.Write(bytes.Repeat([]byte{byte('a' + i)}, n))
	}
	send := func(c *TLSConn, failed chan<- error) {
		at := 0
		for _, n := range sizes {
			k, err := c.Write(want.Bytes()[at : at+n])
			if err != nil || k != n {
				t.Errorf("Write of %d: %d, %v", n, k, err)
				break
			}
			at += n
		}
		failed <- c.CloseWrite()
	}
	failed := make(chan error, 2)
	go send(server, failed)
	go send(client, failed)
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(server)
		got <- b
	}()
	b, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(b, want.Bytes()) {
		t.Errorf("the client read %d bytes of %d, or others: %v", len(b), want.Len(), err)
	}
	if b := <-got; !bytes.Equal(b, want.Bytes()) {
		t.Errorf("the server read %d bytes of %d, or others", len(b), want.Len())
	}
	for range 2 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

// A Write that waits for a peer which does not read is interrupted by Close, and fails.
func TestCloseInterruptsWrite(t *testing.T) {
	server, _ := tlsPair(t)
	wrote := make(chan error, 1)
	go func() {
		big := make([]byte, 4*maxRecord) // waits in flush: too little to be sent before
		for {
			if _, err := server.Write(big); err != nil {
				wrote <- err
				return
			}
		}
	}()
	for range 500 {
		if server.below.flushing.Load() {
			time.Sleep(20 * time.Millisecond)
			if server.below.flushing.Load() {
				break
			}
		}
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	_ = server.Close() // its error is the interruption's
	select {
	case err := <-wrote:
		if err == nil {
			t.Error("a Write into a closed connection succeeded")
		}
	case <-time.After(4 * time.Second):
		t.Fatal("Close does not interrupt Write")
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("Close took %v", d)
	}
	if _, err := server.Write(make([]byte, 2*maxRecord)); err == nil {
		t.Error("Write after the end succeeded")
	}
}

// The connection below is the socket itself, so that Reset and Readable find it.
func TestNetConnIsTheSocket(t *testing.T) {
	server, client := tlsPair(t)
	if _, ok := server.NetConn().(*net.TCPConn); !ok {
		t.Errorf("NetConn is a %T", server.NetConn())
	}
	c := FromNetConn(client)
	c.Reset(0)
	if _, err := server.Read(make([]byte, 1)); err == nil || err == io.EOF { //nolint:errorlint // io.EOF is what it must not be
		t.Errorf("after a reset the peer reads %v", err)
	}
}
