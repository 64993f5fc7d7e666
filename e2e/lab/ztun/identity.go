package ztun

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	securityv1 "istio.io/api/security/v1alpha1"
)

// Identity is a workload's certificate and the roots of its mesh.
type Identity struct {
	SPIFFE      string
	Certificate tls.Certificate
	Roots       *x509.CertPool
}

// CA says where certificates come from.
type CA struct {
	Address    string // of istiod's TLS port, IP:15012
	ServerName string // in istiod's certificate
	RootPEM    []byte // of the ConfigMap istio-ca-root-cert
	Cluster    string // istiod's name of this cluster
}

// Fetch asks the CA for a certificate that is valid for validity. The token
// must be one of the service account in spiffe, for the audience istio-ca.
func (ca CA) Fetch(ctx context.Context, spiffe, token string, validity time.Duration) (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := url.Parse(spiffe)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id}}, key)
	if err != nil {
		return nil, err
	}

	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca.RootPEM) {
		return nil, errors.New("no certificate in the mesh root")
	}
	conn, err := grpc.NewClient("passthrough:///"+ca.Address, grpc.WithTransportCredentials(
		credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: ca.ServerName})))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // one call was all
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token, "ClusterID", ca.Cluster)
	answer, err := securityv1.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx,
		&securityv1.IstioCertificateRequest{
			Csr:              string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
			ValidityDuration: int64(validity.Seconds()),
		})
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", spiffe, err)
	}

	// The chain, leaf first; the last one is the root.
	chain := answer.CertChain
	if len(chain) < 2 {
		return nil, fmt.Errorf("certificate for %s: a chain of %d", spiffe, len(chain))
	}
	identity := &Identity{SPIFFE: spiffe, Certificate: tls.Certificate{PrivateKey: key}, Roots: x509.NewCertPool()}
	identity.Roots.AppendCertsFromPEM([]byte(chain[len(chain)-1]))
	rest := []byte(strings.Join(chain[:len(chain)-1], "\n"))
	for block, rest := pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		identity.Certificate.Certificate = append(identity.Certificate.Certificate, block.Bytes)
	}
	return identity, nil
}

// tlsConfig is that of a mesh peer, on either side: TLS 1.3, h2, no session
// resumption, and a certificate that the mesh's root has signed. SPIFFE
// certificates carry no host name, so the usual check of it is replaced.
func (id *Identity) tlsConfig(wantPeer string) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{id.Certificate},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"h2"},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              id.Roots,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // of the name; VerifyConnection checks the chain
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyPeer(state.PeerCertificates, id.Roots, wantPeer)
		},
	}
}

// verifyPeer checks the chain and, unless want is empty, the identity.
func verifyPeer(chain []*x509.Certificate, roots *x509.CertPool, want string) error {
	if len(chain) == 0 {
		return errors.New("the peer shows no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return err
	}
	if got := spiffeOf(chain[0]); want != "" && got != want {
		return fmt.Errorf("the peer is %q, want %q", got, want)
	}
	return nil
}

func spiffeOf(c *x509.Certificate) string {
	if len(c.URIs) != 1 {
		return ""
	}
	return c.URIs[0].String()
}

// PeerOf returns the SPIFFE ID and the certificate at the other end of an HBONE
// connection.
func peerOf(conn net.Conn) (string, *x509.Certificate) {
	secured, ok := conn.(*tls.Conn)
	if !ok || len(secured.ConnectionState().PeerCertificates) == 0 {
		return "", nil
	}
	leaf := secured.ConnectionState().PeerCertificates[0]
	return spiffeOf(leaf), leaf
}
