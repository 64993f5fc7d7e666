package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
)

// Names of the two secrets that this process makes itself; istiod refers to them in every HBONE context.
const (
	WorkloadCertificate = "default"
	TrustBundle         = "ROOTCA"
)

// redacted is what Envoy puts in the place of sensitive bytes.
var redacted = []byte("[redacted]")

// secret is one immutable version of a named secret.
type secret struct {
	name    string
	version string
	updated time.Time
	proto   *tlsv3.Secret // redacted; for config_dump
	digest  string        // of the certificates: tells apart versions whose bytes come from files

	certificate *tls.Certificate // nil for a validation context
	chain       []*x509.Certificate

	validation *tlsv3.CertificateValidationContext // nil for a certificate
	anchors    []*x509.Certificate
}

// newSecret parses and checks a tls.v3.Secret. Files it points to are read now and not watched.
func newSecret(root, name, version string, now time.Time, in *tlsv3.Secret) (*secret, error) {
	// The notes of a secret repeat what its users' contexts say; refusals count.
	if _, err := census(in); err != nil {
		return nil, fmt.Errorf("secret %q: %w", name, err)
	}
	s := &secret{name: name, version: version, updated: now, proto: proto.Clone(in).(*tlsv3.Secret)}
	var err error
	switch t := s.proto.GetType().(type) {
	case *tlsv3.Secret_TlsCertificate:
		s.certificate, s.chain, err = parseTLSCertificate(root, "tls_certificate", t.TlsCertificate)
		redactCertificate(t.TlsCertificate)
	case *tlsv3.Secret_ValidationContext:
		s.validation = in.GetValidationContext()
		var v *verifier
		if v, err = newVerifier(root, "validation_context", s.validation); err == nil {
			s.anchors = v.anchorCerts
		}
	default:
		err = fieldErrorf("type", "%T is not supported; a certificate or a validation context is", t)
	}
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", name, err)
	}
	var raw [][]byte
	for _, c := range append(s.chain[:len(s.chain):len(s.chain)], s.anchors...) {
		raw = append(raw, c.Raw)
	}
	s.digest = contentVersion(raw...)
	return s, nil
}

func parseTLSCertificate(root, path string, c *tlsv3.TlsCertificate) (*tls.Certificate, []*x509.Certificate, error) {
	if c.GetPrivateKeyProvider() != nil && (!c.GetPrivateKeyProvider().GetFallback() || c.GetPrivateKey() == nil) {
		return nil, nil, fieldErrorf(path+".private_key_provider",
			"provider %q is not available; give private_key and set fallback, or remove the provider from ProxyConfig",
			c.GetPrivateKeyProvider().GetProviderName())
	}
	if c.GetPassword() != nil {
		return nil, nil, fieldErrorf(path+".password", "encrypted private keys are not supported; store the key unencrypted")
	}
	if c.GetPkcs12() != nil {
		return nil, nil, fieldErrorf(path+".pkcs12", "not supported; give certificate_chain and private_key in PEM")
	}
	chain, err := dataSource(root, c.GetCertificateChain())
	if err != nil {
		return nil, nil, fieldErrorf(path+".certificate_chain", "%v", err)
	}
	key, err := dataSource(root, c.GetPrivateKey())
	if err != nil {
		return nil, nil, fieldErrorf(path+".private_key", "%v", err)
	}
	pair, certs, err := parseKeyPair(chain, key)
	if err != nil {
		return nil, nil, fieldErrorf(path, "%v", err)
	}
	return pair, certs, nil
}

func redactCertificate(c *tlsv3.TlsCertificate) {
	for _, ds := range []*corev3.DataSource{c.GetPrivateKey(), c.GetPassword(), c.GetPkcs12()} {
		if ds != nil {
			ds.Specifier = &corev3.DataSource_InlineBytes{InlineBytes: redacted}
			ds.WatchedDirectory = nil
		}
	}
	if p := c.GetPrivateKeyProvider(); p.GetTypedConfig() != nil {
		p.ConfigType = nil // holds keys in a form of its own
	}
}

// certificateSecret and anchorSecret build the resources that Istio's agent would serve.
func certificateSecret(name string, chainPEM, keyPEM []byte) *tlsv3.Secret {
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inline(chainPEM), PrivateKey: inline(keyPEM),
	}}}
}

func anchorSecret(name string, pem, crl []byte) *tlsv3.Secret {
	ctx := &tlsv3.CertificateValidationContext{TrustedCa: inline(pem)}
	if len(crl) > 0 {
		ctx.Crl = inline(crl)
	}
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: ctx}}
}

// contentVersion names a version of a local secret after its public content, so that equal content has
// an equal version in config_dump across restarts.
func contentVersion(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:", len(p)) // a hash never fails to be written to
		_, _ = h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// expiry is the end of the certificate's life, or the earliest end among the trust anchors.
func (s *secret) expiry() (time.Time, bool) {
	if len(s.chain) > 0 {
		return s.chain[0].NotAfter, true
	}
	var first time.Time
	for _, c := range s.anchors {
		if first.IsZero() || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first, len(s.anchors) > 0
}
