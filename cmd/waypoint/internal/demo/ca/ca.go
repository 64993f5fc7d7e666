// Package ca is the demo's certificate authority. It answers the request that Istio's agents send to istiod
// (istio.v1.auth.IstioCertificateService/CreateCertificate), and issues to the nodes of the demo directly. Keys are ECDSA P-256,
// identities SPIFFE URIs. The root lives as long as the process and is kept nowhere.
package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	securityv1 "istio.io/api/security/v1alpha1"
)

// Lifetimes: a workload's is Istio's default; the root outlives any demo.
const (
	leafLife = 24 * time.Hour
	rootLife = 30 * 24 * time.Hour
	// backdate is what istiod allows for clocks that disagree.
	backdate = 2 * time.Minute
)

// CA issues certificates. It is safe for concurrent use.
type CA struct {
	securityv1.UnimplementedIstioCertificateServiceServer

	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	rootPEM []byte
	pool    *x509.CertPool

	mu     sync.Mutex
	tokens map[string]string // token → SPIFFE identity
}

// New makes a CA with a fresh root.
func New() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: []string{"gowaypoint demo"}},
		NotBefore: time.Now().Add(-backdate), NotAfter: time.Now().Add(rootLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	c := &CA{cert: cert, key: key, rootPEM: certPEM(der), pool: x509.NewCertPool(), tokens: map[string]string{}}
	c.pool.AddCert(cert)
	return c, nil
}

// RootPEM is the root certificate.
func (c *CA) RootPEM() []byte { return c.rootPEM }

// Pool holds the root certificate.
func (c *CA) Pool() *x509.CertPool { return c.pool }

// Token makes a bearer token for an identity, in place of a Kubernetes service account token.
func (c *CA) Token(identity string) string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // crypto/rand does not fail
	token := hex.EncodeToString(b)
	c.mu.Lock()
	c.tokens[token] = identity
	c.mu.Unlock()
	return token
}

// Authenticate returns the identity of the token that a call carries.
func (c *CA) Authenticate(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		c.mu.Lock()
		id, ok := c.tokens[strings.TrimPrefix(v, "Bearer ")]
		c.mu.Unlock()
		if ok {
			return id, nil
		}
	}
	return "", status.Error(codes.Unauthenticated, "the call carries no token of the demo")
}

// CreateCertificate signs the key of a request. As with istiod, the identity is that of the token, whatever the request says.
func (c *CA) CreateCertificate(ctx context.Context, req *securityv1.IstioCertificateRequest) (*securityv1.IstioCertificateResponse, error) {
	id, err := c.Authenticate(ctx)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(req.GetCsr()))
	if block == nil {
		return nil, status.Error(codes.InvalidArgument, "csr: not PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "csr: %v", err)
	}
	life := min(leafLife, time.Duration(req.GetValidityDuration())*time.Second)
	if life <= 0 {
		life = leafLife
	}
	der, err := c.sign(&x509.Certificate{NotAfter: time.Now().Add(life)}, id, csr.PublicKey)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "signing: %v", err)
	}
	return &securityv1.IstioCertificateResponse{CertChain: []string{string(certPEM(der)), string(c.rootPEM)}}, nil
}

// Issue makes a key and a certificate for a SPIFFE identity.
func (c *CA) Issue(identity string) (tls.Certificate, error) {
	return c.issue(&x509.Certificate{NotAfter: time.Now().Add(leafLife)}, identity)
}

// IssueServer makes a certificate for a host name and 127.0.0.1, as istiod has for its own name.
func (c *CA) IssueServer(host string) (tls.Certificate, error) {
	return c.issue(&x509.Certificate{NotAfter: time.Now().Add(rootLife), DNSNames: []string{host}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, "")
}

func (c *CA) issue(tmpl *x509.Certificate, identity string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := c.sign(tmpl, identity, &key.PublicKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

func (c *CA) sign(tmpl *x509.Certificate, identity string, key any) ([]byte, error) {
	tmpl.SerialNumber = serial()
	tmpl.NotBefore = time.Now().Add(-backdate)
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	tmpl.BasicConstraintsValid = true
	if identity != "" {
		u, err := url.Parse(identity)
		if err != nil || u.Scheme != "spiffe" {
			return nil, fmt.Errorf("%q is not a SPIFFE identity", identity)
		}
		tmpl.URIs = []*url.URL{u}
	}
	return x509.CreateCertificate(rand.Reader, tmpl, c.cert, key, c.key)
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // crypto/rand does not fail
	b[0] &= 0x7f        // positive
	return new(big.Int).SetBytes(b)
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
