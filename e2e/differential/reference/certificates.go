package reference

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/authz"
)

const (
	rootCertificate   = "root.pem"
	serverCertificate = "server.pem"
	serverKey         = "server.key"
)

// authority issues the certificates of the TLS listener and of its clients.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &authority{key: key, cert: template()}
	a.cert.IsCA, a.cert.BasicConstraintsValid, a.cert.KeyUsage = true, true, x509.KeyUsageCertSign
	a.cert.Subject = pkix.Name{CommonName: "differential root"}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		return nil, err
	}
	a.cert, err = x509.ParseCertificate(der)
	return a, err
}

func template() *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
}

func (a *authority) issue(t *x509.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// client issues a certificate that Envoy will read as the peer. Of the subject it knows the forms "CN=…" and "CN=…,O=…".
func (a *authority) client(p *authz.Peer) (tls.Certificate, error) {
	t := template()
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	t.DNSNames = p.DNSSANs
	for _, san := range p.URISANs {
		u, err := url.Parse(san)
		if err != nil {
			return tls.Certificate{}, err
		}
		t.URIs = append(t.URIs, u)
	}
	for part := range strings.SplitSeq(p.Subject, ",") {
		switch kind, value, _ := strings.Cut(part, "="); kind {
		case "CN":
			t.Subject.CommonName = value
		case "O":
			t.Subject.Organization = []string{value}
		}
	}
	return a.issue(t)
}

// write leaves the files that Envoy reads.
func (a *authority) write(dir string) error {
	t := template()
	t.DNSNames, t.Subject.CommonName = []string{"reference"}, "reference"
	server, err := a.issue(t)
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		rootCertificate:   {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		serverCertificate: {Type: "CERTIFICATE", Bytes: server.Certificate[0]},
		serverKey:         {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
