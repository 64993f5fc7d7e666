package telemetry

import (
	"crypto/sha1" //nolint:gosec // an identifier that people ask for, not a proof
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
)

// TLS is what one TLS handshake proved. It is immutable. The texts are made when they are asked for: most logs ask for none.
type TLS struct {
	State *tls.ConnectionState
}

// Peer is the peer's certificate, nil if it presented none.
func (t *TLS) Peer() *x509.Certificate {
	if t == nil || t.State == nil || len(t.State.PeerCertificates) == 0 {
		return nil
	}
	return t.State.PeerCertificates[0]
}

// Version is "TLSv1.3", as OpenSSL calls it.
func (t *TLS) Version() string {
	switch t.State.Version {
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return ""
}

// SerialText is a serial number in hex, two digits for each byte.
func SerialText(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }

// SHA256Text and SHA1Text are a certificate's fingerprints.
func SHA256Text(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// SHA1Text is the SHA-1 fingerprint.
func SHA1Text(c *x509.Certificate) string {
	sum := sha1.Sum(c.Raw) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// PEMText is a certificate in URL-encoded PEM.
func PEMText(c *x509.Certificate) string {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	// Envoy encodes what a query may not have, and a blank as %20.
	return strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20")
}
