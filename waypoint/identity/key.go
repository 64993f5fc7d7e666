package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
)

// KeyKind chooses the workload's private key, as WORKLOAD_RSA_KEY_SIZE, ECC_SIGNATURE_ALGORITHM and
// ECC_CURVE do for Istio's agent. The zero value is RSA-2048: Istio's default, which every mesh CA signs.
type KeyKind struct {
	// ECDSA asks for an elliptic-curve key (ECC_SIGNATURE_ALGORITHM=ECDSA).
	ECDSA bool
	// P384 picks P-384 over P-256 (ECC_CURVE=P384). Only with ECDSA.
	P384 bool
	// RSABits is the size of an RSA key; 0 means 2048. Below 2048 is refused: Go's TLS and current
	// verifiers do not take such keys.
	RSABits int
}

func (k KeyKind) generate() (crypto.Signer, error) {
	switch {
	case k.ECDSA && k.P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case k.ECDSA:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	bits, err := k.check()
	if err != nil {
		return nil, err
	}
	return rsa.GenerateKey(rand.Reader, bits)
}

// check returns the size of the RSA key. Above 8192 bits crypto/tls refuses a peer's key, ours included.
func (k KeyKind) check() (rsaBits int, err error) {
	bits := k.RSABits
	if bits == 0 {
		bits = 2048
	}
	if !k.ECDSA && (bits < 2048 || bits > 8192) {
		return 0, fmt.Errorf("WORKLOAD_RSA_KEY_SIZE is %d: TLS peers accept 2048 to 8192 bits", bits)
	}
	return bits, nil
}

// newCSR makes a fresh key and a PEM certificate request that carries id as its only (hence critical)
// subject alternative name and an empty subject, as Istio's agent sends it.
func newCSR(kind KeyKind, id *url.URL) (csrPEM, keyPEM []byte, err error) {
	key, err := kind.generate()
	if err != nil {
		return nil, nil, fmt.Errorf("generating the workload key: %w", err)
	}
	// crypto/x509 would add the name itself but never mark it critical, which RFC 5280 section 4.2.1.6
	// demands when the subject is empty.
	san, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(id.String())}})
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the identity %s: %w", id, err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		ExtraExtensions: []pkix.Extension{{Id: subjectAltName, Critical: true, Value: san}},
	}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("making the certificate request: %w", err)
	}
	// PKCS #8 holds both kinds of key. Istio's PKCS8_KEY option picks another encoding, which nobody
	// outside this process sees unless OUTPUT_CERTS is on, and all readers of that accept PKCS #8.
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the workload key: %w", err)
	}
	csrPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return csrPEM, keyPEM, nil
}

// parseKeyPair reads a PEM chain (leaf first) and its key. The result has Leaf set.
func parseKeyPair(chainPEM, keyPEM []byte) (*tls.Certificate, []*x509.Certificate, error) {
	pair, err := tls.X509KeyPair(chainPEM, keyPEM)
	if err != nil {
		return nil, nil, err
	}
	chain := make([]*x509.Certificate, len(pair.Certificate))
	for i, der := range pair.Certificate {
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, nil, fmt.Errorf("certificate %d of the chain: %w", i, err)
		}
	}
	pair.Leaf = chain[0]
	return &pair, chain, nil
}

// errNoCertificates says that PEM data holds no certificate at all; an empty trust bundle would
// otherwise look like a valid one that trusts nobody.
var errNoCertificates = errors.New("no PEM certificate in the data")

// parseCertificates reads every CERTIFICATE block; other blocks are skipped as OpenSSL does. A block
// that does not parse is an error: a bundle must not shrink unseen.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, block := range pemBlocks(data) {
		if block.Type != "CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE" && block.Type != "X509 CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs), err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errNoCertificates
	}
	return certs, nil
}

// parseCRLs reads every X509 CRL block.
func parseCRLs(data []byte) ([]*x509.RevocationList, error) {
	var lists []*x509.RevocationList
	for _, block := range pemBlocks(data) {
		if block.Type != "X509 CRL" {
			continue
		}
		l, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("revocation list %d: %w", len(lists), err)
		}
		lists = append(lists, l)
	}
	if len(lists) == 0 {
		return nil, errors.New("no PEM revocation list in the data")
	}
	return lists, nil
}

// pemBlocks decodes all blocks of data.
func pemBlocks(data []byte) []*pem.Block {
	var out []*pem.Block
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		out = append(out, block)
	}
	return out
}
