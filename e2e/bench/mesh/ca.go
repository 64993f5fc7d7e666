package mesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// CA signs workload certificates of trust domain cluster.local. It lives as long as the process.
type CA struct {
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	pool    *x509.CertPool
	RootPEM []byte
}

// validity is far more than a measurement takes.
const validity = 24 * time.Hour

// NewCA makes a new root.
func NewCA() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"cluster.local"}},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(validity),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	ca := &CA{cert: cert, key: key, pool: x509.NewCertPool(), RootPEM: pemBlock("CERTIFICATE", der)}
	ca.pool.AddCert(cert)
	return ca, nil
}

// Identity is a workload's certificate, as PEM for the proxies and as a value for us.
type Identity struct {
	SPIFFE      string
	CertPEM     []byte // the leaf; the root signed it
	KeyPEM      []byte
	Certificate tls.Certificate

	ca *CA
}

// Issue makes an identity spiffe://cluster.local/ns/<namespace>/sa/<account>. The key is P-256 for all, so that handshakes
// cost the same everywhere.
func (ca *CA) Issue(namespace, account string) (*Identity, error) {
	id := &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/" + namespace + "/sa/" + account}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, URIs: []*url.URL{id}, NotBefore: ca.cert.NotBefore, NotAfter: ca.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &Identity{
		SPIFFE: id.String(), CertPEM: pemBlock("CERTIFICATE", der), KeyPEM: pemBlock("PRIVATE KEY", pkcs8),
		Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, ca: ca,
	}, nil
}

// TLS is the configuration of either side of an HBONE connection, with ztunnel's choices: TLS 1.3, h2, X25519 first, no
// resumption, and a peer whose certificate the root has signed and that is peer, unless peer is empty.
func (id *Identity) TLS(peer string) *tls.Config {
	return &tls.Config{
		Certificates:                []tls.Certificate{id.Certificate},
		MinVersion:                  tls.VersionTLS13,
		NextProtos:                  []string{"h2"},
		CurvePreferences:            []tls.CurveID{tls.X25519, tls.CurveP256},
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
		ClientAuth:                  tls.RequireAndVerifyClientCert,
		ClientCAs:                   id.ca.pool,
		InsecureSkipVerify:          true, //nolint:gosec // of the host name, which SPIFFE certificates lack; the chain is checked below
		VerifyConnection: func(s tls.ConnectionState) error {
			if s.NegotiatedProtocol != "h2" {
				return fmt.Errorf("the peer speaks %q, not h2", s.NegotiatedProtocol)
			}
			if len(s.PeerCertificates) == 0 {
				return errors.New("the peer shows no certificate")
			}
			leaf := s.PeerCertificates[0]
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: id.ca.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
				return err
			}
			if len(leaf.URIs) != 1 || peer != "" && leaf.URIs[0].String() != peer {
				return fmt.Errorf("the peer is %v, not %s", leaf.URIs, peer)
			}
			return nil
		},
	}
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
