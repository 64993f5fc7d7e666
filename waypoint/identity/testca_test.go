package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

// testCA is a certificate authority with a key of its own.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

var serials atomic.Int64

func newTestCA(t testing.TB, name string, parent *testCA) *testCA {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	signer, by := tmpl, key
	if parent != nil {
		signer, by = parent.cert, parent.key
	}
	der := must(x509.CreateCertificate(rand.Reader, tmpl, signer, key.Public(), by))
	return &testCA{cert: must(x509.ParseCertificate(der)), key: key, pem: certPEM(der)}
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// leaf describes a certificate to issue.
type leaf struct {
	uris, dns []string
	ips       []net.IP
	notBefore time.Time
	notAfter  time.Time
	usages    []x509.ExtKeyUsage // default: server and client, as istiod's
	key       any                // public key; default: a new one
}

func (ca *testCA) issue(t testing.TB, l leaf) (chain, key []byte) {
	t.Helper()
	pub := l.key
	if pub == nil {
		k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(k))})
		pub = k.Public()
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), NotBefore: l.notBefore, NotAfter: l.notAfter,
		DNSNames: l.dns, IPAddresses: l.ips, ExtKeyUsage: l.usages, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if tmpl.NotBefore.IsZero() {
		tmpl.NotBefore = time.Now().Add(-2 * time.Minute)
	}
	if tmpl.NotAfter.IsZero() {
		tmpl.NotAfter = time.Now().Add(time.Hour)
	}
	if l.usages == nil {
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	for _, u := range l.uris {
		tmpl.URIs = append(tmpl.URIs, must(url.Parse(u)))
	}
	return certPEM(must(x509.CreateCertificate(rand.Reader, tmpl, ca.cert, pub, ca.key))), key
}

func (ca *testCA) crl(t testing.TB, revoked ...*big.Int) []byte {
	t.Helper()
	tmpl := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range revoked {
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: s, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der := must(x509.CreateRevocationList(rand.Reader, tmpl, ca.cert, ca.key))
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func writeFile(t testing.TB, data []byte, path ...string) {
	t.Helper()
	p := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// hboneServer and hboneClient are the contexts that a real istiod sends for HBONE.
const hboneCommon = `"common_tls_context": {
  "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
  "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": {"api_config_source": {"api_type": "GRPC",
    "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
    "set_node_on_first_message_only": true}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}}],
  "combined_validation_context": {
    "default_validation_context": {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}}]},
    "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": {"ads": {}, "resource_api_version": "V3"}}},
  "alpn_protocols": ["h2"]}`

func downstream(t testing.TB, text string) *tlsv3.DownstreamTlsContext {
	t.Helper()
	m := &tlsv3.DownstreamTlsContext{}
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func upstream(t testing.TB, text string) *tlsv3.UpstreamTlsContext {
	t.Helper()
	m := &tlsv3.UpstreamTlsContext{}
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// newWorkload returns a store that holds a certificate for id and trusts ca.
func newWorkload(t testing.TB, ca *testCA, id string) *Store {
	t.Helper()
	s := NewStore(StoreOptions{Root: t.TempDir()})
	t.Cleanup(s.Close)
	chain, key := ca.issue(t, leaf{uris: []string{id}})
	if err := s.SetWorkload(chain, key); err != nil {
		t.Fatal(err)
	}
	if err := s.SetAnchors(ca.pem); err != nil {
		t.Fatal(err)
	}
	return s
}

// handshake runs one over loopback TCP and returns both sides' errors. The client's error counts the
// first read too: in TLS 1.3 a client learns only then that its certificate was refused.
func handshake(t testing.TB, server, client *tls.Config) (srv, cli *tls.Conn, srvErr, cliErr error) {
	t.Helper()
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	defer func() { _ = ln.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := ln.Accept()
		if err != nil {
			srvErr = err
			return
		}
		srv = tls.Server(c, server)
		_ = srv.SetDeadline(time.Now().Add(10 * time.Second))
		if srvErr = srv.Handshake(); srvErr == nil {
			_, srvErr = srv.Write([]byte("x"))
		} else {
			_ = c.Close()
		}
	}()
	c := must(net.Dial("tcp", ln.Addr().String()))
	cli = tls.Client(c, client)
	_ = cli.SetDeadline(time.Now().Add(10 * time.Second))
	if cliErr = cli.Handshake(); cliErr == nil {
		_, cliErr = cli.Read(make([]byte, 1))
	} else {
		_ = c.Close()
	}
	<-done
	t.Cleanup(func() { _ = c.Close(); _ = srv.Close() })
	return srv, cli, srvErr, cliErr
}

func wantError(t testing.TB, err error, text string) {
	t.Helper()
	if text == "" {
		if err != nil {
			t.Fatalf("unexpected error: %v", err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("error is %v; want it to contain %q", err, text)
	}
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("did not happen within 10 s: %s", what)
}
