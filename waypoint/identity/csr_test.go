package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	securityv1 "istio.io/api/security/v1alpha1"
)

// caServer answers Istio's CSR call with real certificates.
type caServer struct {
	securityv1.UnimplementedIstioCertificateServiceServer
	ca *testCA

	mu       sync.Mutex
	ttl      time.Duration
	token    string // demanded
	fail     []error
	answer   []string // overrides the certificates
	requests []*securityv1.IstioCertificateRequest
	metadata []metadata.MD
}

func (s *caServer) CreateCertificate(ctx context.Context, req *securityv1.IstioCertificateRequest) (*securityv1.IstioCertificateResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	md, _ := metadata.FromIncomingContext(ctx)
	s.requests = append(s.requests, req)
	s.metadata = append(s.metadata, md)
	if len(s.fail) > 0 {
		err := s.fail[0]
		s.fail = s.fail[1:]
		return nil, err
	}
	if got := md.Get("authorization"); len(got) != 1 || got[0] != "Bearer "+s.token {
		return nil, status.Errorf(codes.Unauthenticated, "token %q", got)
	}
	if s.answer != nil {
		return &securityv1.IstioCertificateResponse{CertChain: s.answer}, nil
	}
	block, _ := pem.Decode([]byte(req.GetCsr()))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil || len(csr.Subject.Names) != 0 {
		return nil, status.Error(codes.InvalidArgument, "bad CSR")
	}
	var uris []string
	for _, u := range csr.URIs {
		uris = append(uris, u.String())
	}
	chain, _ := s.ca.issue(nopT{}, leaf{uris: uris, key: csr.PublicKey, notAfter: time.Now().Add(s.ttl)})
	return &securityv1.IstioCertificateResponse{CertChain: []string{string(chain), string(s.ca.pem)}}, nil
}

// nopT lets the server goroutine use helpers that take a testing.TB only for Helper.
type nopT struct{ testing.TB }

func (nopT) Helper() {}

func (s *caServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *caServer) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// startCA serves over TLS with a certificate for istiod and returns a root directory as in the container.
func startCA(t *testing.T, ttl time.Duration) (*caServer, SourceConfig) {
	t.Helper()
	ca := newTestCA(t, "mesh", nil)
	s := &caServer{ca: ca, ttl: ttl, token: "token-1"}
	chain, key := ca.issue(t, leaf{dns: []string{"istiod.istio-system.svc"}})
	pair := must(tls.X509KeyPair(chain, key))
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	srv := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	securityv1.RegisterIstioCertificateServiceServer(srv, s)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	dir := t.TempDir()
	writeFile(t, []byte("token-1\n"), dir, tokenFile)
	writeFile(t, ca.pem, dir, istiodRootFile)
	return s, SourceConfig{Root: dir, CSR: CSRConfig{
		Address: ln.Addr().String(), ServerName: "istiod.istio-system.svc", ClusterID: "Kubernetes",
		Headers: map[string]string{"x-team": "blue"}, CertSigner: "clusterissuers.example.com/mesh",
		TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: "waypoint", Key: KeyKind{ECDSA: true},
	}}
}

func runSource(t *testing.T, cfg SourceConfig) *Store {
	t.Helper()
	src := must(NewSource(cfg))
	store := NewStore(StoreOptions{Root: cfg.Root})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx, store) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
		store.Close()
	})
	return store
}

func serialOf(s *Store) string {
	for _, sec := range s.Secrets() {
		if sec.Name == WorkloadCertificate && len(sec.Chain) > 0 {
			return sec.Chain[0].SerialNumber.String()
		}
	}
	return ""
}

func TestCSRAndRotation(t *testing.T) {
	ca, cfg := startCA(t, 3*time.Second)
	cfg.OutputDir = "out"
	store := runSource(t, cfg)
	eventually(t, "first certificate", func() bool { return store.Ready(WorkloadCertificate) && store.Ready(TrustBundle) })

	ca.mu.Lock()
	req, md := ca.requests[0], ca.metadata[0]
	ca.mu.Unlock()
	if req.GetValidityDuration() != 86400 || req.GetMetadata().GetFields()["CertSigner"].GetStringValue() != "clusterissuers.example.com/mesh" {
		t.Errorf("request is %v", req)
	}
	if md.Get("clusterid")[0] != "Kubernetes" || md.Get("x-team")[0] != "blue" {
		t.Errorf("metadata is %v", md)
	}

	// A connection that outlives the certificate it was made with.
	peer := newWorkload(t, ca.ca, clientID)
	server := hboneServer(t, store)
	client := must(peer.ClientTLS(upstream(t, `{`+hboneCommon+`}`), ClientOptions{})).Config(ConnectionOptions{})
	srv1, cli1, srvErr, _ := handshake(t, server.Config(), client)
	wantError(t, srvErr, "")

	first := serialOf(store)
	start := time.Now()
	// The token is replaced as the kubelet does it; the next call has to carry the new one.
	writeFile(t, []byte("token-2"), cfg.Root, tokenFile)
	ca.set(func() { ca.token = "token-2" })
	eventually(t, "rotation", func() bool { return serialOf(store) != first })
	if d := time.Since(start); d > 2800*time.Millisecond { // generous: machines are slow, but before the end of life
		t.Errorf("rotated after %v; half of a life of 3 s is due", d)
	}
	eventually(t, "second rotation, past the end of the first certificate", func() bool { return time.Since(start) > 3100*time.Millisecond })
	if _, err := srv1.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	if _, err := cli1.Read(make([]byte, 1)); err != nil {
		t.Errorf("connection broke: %v", err)
	}
	_, _, srvErr, cliErr := handshake(t, server.Config(), client)
	wantError(t, srvErr, "")
	wantError(t, cliErr, "")
	for _, f := range []string{keyFile, certChainFile, rootCertFile} {
		st, err := os.Stat(filepath.Join(cfg.Root, "out", f))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("OUTPUT_CERTS %s: %v", f, err)
		}
	}
	if exp, ok := store.Expiry(WorkloadCertificate); !ok || time.Until(exp) > 3*time.Second {
		t.Errorf("expiry %v %v", exp, ok)
	}
}

func TestCSRRetriesQuicklyThenSlowly(t *testing.T) {
	ca, cfg := startCA(t, time.Hour)
	ca.fail = []error{status.Error(codes.Unavailable, "starting"), status.Error(codes.Internal, "again")}
	var seen []error
	var mu sync.Mutex
	cfg.CSR.Observe = func(_ time.Duration, err error) { mu.Lock(); seen = append(seen, err); mu.Unlock() }
	start := time.Now()
	store := runSource(t, cfg)
	eventually(t, "certificate after two retriable errors", func() bool { return store.Ready(WorkloadCertificate) })
	if d := time.Since(start); d < 250*time.Millisecond || d > 8*time.Second {
		t.Errorf("took %v; want the pauses of 100 and 200 ms", d)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 3 || seen[0] == nil || seen[2] != nil {
		t.Errorf("observed %v", seen)
	}
}

func TestCSRKeepsTryingAndKeepsTheOldCertificate(t *testing.T) {
	ca, cfg := startCA(t, 2*time.Second)
	ca.fail = []error{status.Error(codes.Unauthenticated, "no")} // not retriable: the outer loop
	store := runSource(t, cfg)
	eventually(t, "certificate", func() bool { return store.Ready(WorkloadCertificate) })
	first := serialOf(store)
	ca.set(func() { ca.token = "changed" })
	n := ca.calls()
	eventually(t, "refused renewals", func() bool { return ca.calls() > n+1 })
	if serialOf(store) != first || !store.Ready(WorkloadCertificate) {
		t.Error("a failed renewal lost the old certificate")
	}
	ca.set(func() { ca.token = "token-1" })
	eventually(t, "renewal after the CA came back", func() bool { return serialOf(store) != first })
}

func TestCSRRefusesBadAnswers(t *testing.T) {
	ca, cfg := startCA(t, time.Hour)
	src := must(newCSRSource(withDefaults(cfg)))
	store := NewStore(StoreOptions{Root: cfg.Root})
	defer store.Close()
	other, _ := ca.ca.issue(t, leaf{uris: []string{waypointID}})
	for _, tc := range []struct {
		name   string
		answer []string
		err    string
	}{
		{"one element", []string{string(other)}, "has 1 element(s)"},
		{"another key", []string{string(other), string(ca.ca.pem)}, "private key does not match"},
		{"no certificate", []string{"x", string(ca.ca.pem)}, "not usable"},
	} {
		ca.set(func() { ca.answer = tc.answer })
		_, err := src.renew(t.Context(), store)
		wantError(t, err, tc.err)
	}
	ca.set(func() { ca.answer, ca.ttl = nil, -time.Second })
	_, err := src.renew(t.Context(), store)
	wantError(t, err, "are the clocks in agreement")
	if store.Ready(WorkloadCertificate) {
		t.Error("a bad answer reached the store")
	}
}

func withDefaults(c SourceConfig) SourceConfig {
	c.Log = NewStore(StoreOptions{}).log
	return c
}

func TestCSRVerifiesTheCA(t *testing.T) {
	ca, cfg := startCA(t, time.Hour)
	store := NewStore(StoreOptions{Root: cfg.Root})
	defer store.Close()
	impostor := newTestCA(t, "impostor", nil)
	writeFile(t, impostor.pem, cfg.Root, istiodRootFile)
	src := must(newCSRSource(withDefaults(cfg)))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := src.renew(ctx, store)
	wantError(t, err, "certificate signed by unknown authority")
	if ca.calls() != 0 {
		t.Error("the token went to an unverified server")
	}
	// The root file is read again for the next attempt.
	writeFile(t, ca.ca.pem, cfg.Root, istiodRootFile)
	_, err = src.renew(t.Context(), store)
	wantError(t, err, "")

	src.ServerName = "other.svc"
	ctx2, cancel2 := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel2()
	_, err = src.renew(ctx2, store)
	wantError(t, err, "istiod.istio-system.svc, not other.svc")
}

func TestRotateAfter(t *testing.T) {
	c := &csrSource{CSRConfig: CSRConfig{GraceRatio: 0.5, GraceJitter: 0.01}}
	now := time.Now()
	for range 1000 {
		d := c.rotateAfter(now, now.Add(24*time.Hour))
		if d < 11*time.Hour+45*time.Minute || d > 12*time.Hour+15*time.Minute {
			t.Fatalf("renews after %v of 24 h; want 12 h ± 1 %%", d)
		}
	}
	for n := range 20 {
		if d := backoff(n); d < 250*time.Millisecond || d > 30*time.Second {
			t.Errorf("pause %d is %v", n, d)
		}
	}
}

func TestRSAKeyAndKinds(t *testing.T) {
	ca := newTestCA(t, "mesh", nil)
	for _, kind := range []KeyKind{{}, {ECDSA: true}, {ECDSA: true, P384: true}, {RSABits: 3072}} {
		csrPEM, keyPEM, err := newCSR(kind, must(newCSRSource(withDefaults(SourceConfig{Root: ".", CSR: CSRConfig{
			Address: "a:1", TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: "waypoint"}}))).id)
		wantError(t, err, "")
		block, _ := pem.Decode(csrPEM)
		csr := must(x509.ParseCertificateRequest(block.Bytes))
		if csr.URIs[0].String() != waypointID {
			t.Errorf("%+v asks for %v", kind, csr.URIs)
		}
		for _, e := range csr.Extensions {
			if e.Id.Equal(subjectAltName) && !e.Critical {
				t.Error("with an empty subject the SAN has to be critical")
			}
		}
		chain, _ := ca.issue(t, leaf{uris: []string{waypointID}, key: csr.PublicKey})
		_, _, err = parseKeyPair(chain, keyPEM)
		wantError(t, err, "")
	}
	_, err := newCSRSource(withDefaults(SourceConfig{CSR: CSRConfig{Address: "a:1", TrustDomain: "a", Namespace: "b", ServiceAccount: "c", Key: KeyKind{RSABits: 1024}}}))
	wantError(t, err, "WORKLOAD_RSA_KEY_SIZE is 1024")
}

func TestSourceSelection(t *testing.T) {
	base := func(t *testing.T) SourceConfig {
		return SourceConfig{Root: t.TempDir(), CSR: CSRConfig{Address: "istiod:15012", TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: "waypoint"}}
	}
	c := base(t)
	if got := must(NewSource(c)).String(); got != "CA istiod:15012 for "+waypointID {
		t.Error(got)
	}
	for _, f := range []string{certChainFile, keyFile, rootCertFile} {
		writeFile(t, []byte("x"), c.Root, credentialDir, f)
	}
	if got := must(NewSource(c)).String(); !strings.HasSuffix(got, credentialDir) {
		t.Error(got)
	}
	c.FileMounted = true
	if got := must(NewSource(c)).String(); !strings.HasSuffix(got, fileMountedDir) {
		t.Error(got)
	}

	c = base(t)
	c.SDSSocket = "spire.sock"
	_, err := NewSource(c)
	wantError(t, err, "spire.sock, which does not exist")
	c.SDSSocket = "../x"
	_, err = NewSource(c)
	wantError(t, err, "bare file name")

	// A live SDS socket: the operator gives this workload another identity.
	c = base(t)
	dir := must(os.MkdirTemp("", "sds")) // t.TempDir can exceed the length of a socket path
	defer func() { _ = os.RemoveAll(dir) }()
	c.Root = dir
	if err := os.MkdirAll(filepath.Join(dir, sdsSocketDir), 0o755); err != nil {
		t.Fatal(err)
	}
	ln := must(net.Listen("unix", filepath.Join(dir, sdsSocketDir, "socket")))
	_, err = NewSource(c)
	wantError(t, err, "a server listens on")
	if !errors.Is(err, ErrExternalSDS) {
		t.Errorf("%v is not ErrExternalSDS", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = ln.Close()
	if _, err = NewSource(c); err != nil {
		t.Errorf("a leftover socket stops the start: %v", err)
	}
}
