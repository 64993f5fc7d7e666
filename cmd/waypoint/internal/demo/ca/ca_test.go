package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	securityv1 "istio.io/api/security/v1alpha1"
)

const (
	waypoint = "spiffe://cluster.local/ns/default/sa/waypoint"
	other    = "spiffe://cluster.local/ns/other/sa/admin"
)

func request(t *testing.T, identity string) *securityv1.IstioCertificateRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(identity)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{u}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &securityv1.IstioCertificateRequest{
		Csr: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), ValidityDuration: 3600,
	}
}

func withToken(token string) context.Context {
	return metadata.NewIncomingContext(context.Background(), metadata.Pairs("authorization", "Bearer "+token))
}

// The token decides who one is, not the request.
func TestIdentityIsTheToken(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.CreateCertificate(withToken(c.Token(waypoint)), request(t, other))
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.GetCertChain()) != 2 || resp.GetCertChain()[1] != string(c.RootPEM()) {
		t.Fatalf("the chain is leaf and root: %d elements", len(resp.GetCertChain()))
	}
	block, _ := pem.Decode([]byte(resp.GetCertChain()[0]))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != waypoint {
		t.Errorf("issued to %v, want %s", leaf.URIs, waypoint)
	}
	if left := time.Until(leaf.NotAfter); left > time.Hour || left < 59*time.Minute {
		t.Errorf("valid for %s, asked for 1h", left)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: c.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	good := request(t, waypoint)
	if _, err := c.CreateCertificate(context.Background(), good); status.Code(err) != codes.Unauthenticated {
		t.Errorf("no token: %v", err)
	}
	if _, err := c.CreateCertificate(withToken("made up"), good); status.Code(err) != codes.Unauthenticated {
		t.Errorf("unknown token: %v", err)
	}
	block, _ := pem.Decode([]byte(good.GetCsr()))
	block.Bytes[len(block.Bytes)-1] ^= 1 // the signature
	bad := &securityv1.IstioCertificateRequest{Csr: string(pem.EncodeToMemory(block))}
	if _, err := c.CreateCertificate(withToken(c.Token(waypoint)), bad); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a key that the sender does not have: %v", err)
	}
}
