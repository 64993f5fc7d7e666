package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// VerifyError says why a peer's certificate was refused. Stage follows the steps of Envoy's validator,
// so that logs can be compared.
type VerifyError struct {
	// Stage is "no certificate", "chain", "revocation", "subject alternative names", "pinned
	// certificate" or "identity".
	Stage string
	// Peer is the certificate's identity as claimed; it is not proven when Stage is "chain".
	Peer string
	Err  error
}

func (e *VerifyError) Error() string {
	who := e.Peer
	if who == "" {
		who = "peer"
	}
	return fmt.Sprintf("certificate of %s refused (%s): %v", who, e.Stage, e.Err)
}

func (e *VerifyError) Unwrap() error { return e.Err }

// verifier is a compiled, immutable envoy CertificateValidationContext.
type verifier struct {
	anchors     *x509.CertPool // nil: the context has no trusted CA and the chain is not verified
	anchorCerts []*x509.Certificate
	sans        []sanMatcher // any one must match; empty: all names accepted
	hashes      map[[sha256.Size]byte]bool
	spkis       map[[sha256.Size]byte]bool
	crls        []*x509.RevocationList
	crlLeafOnly bool
	maxDepth    int // intermediates allowed; -1: no bound
}

// newVerifier compiles a validation context. path is where it stands in the message, for errors.
func newVerifier(root, path string, ctx *tlsv3.CertificateValidationContext) (*verifier, error) {
	v := &verifier{maxDepth: -1, crlLeafOnly: ctx.GetOnlyVerifyLeafCertCrl()}
	if err := v.setAnchors(root, path, ctx); err != nil {
		return nil, err
	}
	for i, m := range ctx.GetMatchTypedSubjectAltNames() {
		s, err := newSANMatcher(fmt.Sprintf("%s.match_typed_subject_alt_names[%d]", path, i), m)
		if err != nil {
			return nil, err
		}
		v.sans = append(v.sans, s)
	}
	// Deprecated since Envoy 1.20, but a SAN restriction that is not applied would admit strangers.
	//nolint:staticcheck // see above
	for i, m := range ctx.GetMatchSubjectAltNames() {
		s, err := compileSAN(fmt.Sprintf("%s.match_subject_alt_names[%d]", path, i), m, anySAN...)
		if err != nil {
			return nil, err
		}
		v.sans = append(v.sans, s)
	}
	if err := v.setPins(path, ctx); err != nil {
		return nil, err
	}
	if len(v.sans) > 0 && v.anchors == nil {
		// Envoy refuses this too: names on a certificate that anybody may have made prove nothing.
		return nil, fieldErrorf(path+".match_typed_subject_alt_names", "needs trusted_ca: names without a verified chain prove nothing")
	}
	if d := ctx.GetMaxVerifyDepth(); d != nil {
		v.maxDepth = int(d.GetValue())
	}
	if crl, err := dataSource(root, ctx.GetCrl()); err != nil {
		return nil, fieldErrorf(path+".crl", "%v", err)
	} else if crl != nil {
		if v.anchors == nil {
			return nil, fieldErrorf(path+".crl", "needs trusted_ca")
		}
		if v.crls, err = parseCRLs(crl); err != nil {
			return nil, fieldErrorf(path+".crl", "%v", err)
		}
	}
	return v, nil
}

func (v *verifier) setAnchors(root, path string, ctx *tlsv3.CertificateValidationContext) error {
	pem, err := dataSource(root, ctx.GetTrustedCa())
	if err != nil {
		return fieldErrorf(path+".trusted_ca", "%v", err)
	}
	switch {
	case ctx.GetTrustedCa() != nil:
		certs, err := parseCertificates(pem)
		if err != nil {
			return fieldErrorf(path+".trusted_ca", "%v", err)
		}
		v.anchors, v.anchorCerts = x509.NewCertPool(), certs
		for _, c := range certs {
			v.anchors.AddCert(c)
		}
	case ctx.GetSystemRootCerts() != nil:
		if v.anchors, err = x509.SystemCertPool(); err != nil {
			return fieldErrorf(path+".system_root_certs", "%v", err)
		}
	}
	return nil
}

// setPins reads verify_certificate_hash (hexadecimal SHA-256 of the certificate, colons allowed) and
// verify_certificate_spki (base64 SHA-256 of the public key).
func (v *verifier) setPins(path string, ctx *tlsv3.CertificateValidationContext) error {
	for i, h := range ctx.GetVerifyCertificateHash() {
		raw, err := hex.DecodeString(strings.ReplaceAll(h, ":", ""))
		if err != nil || len(raw) != sha256.Size {
			return fieldErrorf(fmt.Sprintf("%s.verify_certificate_hash[%d]", path, i), "%q is not a hexadecimal SHA-256", h)
		}
		if v.hashes == nil {
			v.hashes = map[[sha256.Size]byte]bool{}
		}
		v.hashes[[sha256.Size]byte(raw)] = true
	}
	for i, h := range ctx.GetVerifyCertificateSpki() {
		raw, err := base64.StdEncoding.DecodeString(h)
		if err != nil || len(raw) != sha256.Size {
			return fieldErrorf(fmt.Sprintf("%s.verify_certificate_spki[%d]", path, i), "%q is not a base64 SHA-256", h)
		}
		if v.spkis == nil {
			v.spkis = map[[sha256.Size]byte]bool{}
		}
		v.spkis[[sha256.Size]byte(raw)] = true
	}
	return nil
}

// verifiesAnything reports whether the context checks a peer at all. Without any check Envoy accepts
// every certificate.
func (v *verifier) verifiesAnything() bool {
	return v.anchors != nil || len(v.hashes) > 0 || len(v.spkis) > 0
}

// check verifies a peer's chain (leaf first, non-empty) as Envoy's default validator does: chain up to a
// trust anchor and validity at now, extended key usage for the peer's role (a certificate without that
// extension serves all roles), revocation lists, pins, then names. hosts replaces the context's SAN
// matchers with "names one of these hosts" when not empty; extraHosts is checked in addition.
func (v *verifier) check(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time, hosts, extraHosts []string) error {
	leaf := chain[0]
	fail := func(stage string, err error) error {
		return &VerifyError{Stage: stage, Peer: identityOf(leaf), Err: err}
	}
	if v.anchors != nil {
		if err := v.checkChain(chain, usage, now); err != nil {
			return fail("chain", err)
		}
	}
	if len(v.hashes)+len(v.spkis) > 0 &&
		!v.hashes[sha256.Sum256(leaf.Raw)] && !v.spkis[sha256.Sum256(leaf.RawSubjectPublicKeyInfo)] {
		return fail("pinned certificate", fmt.Errorf("neither its hash nor its key is listed"))
	}
	switch {
	case len(hosts) > 0:
		if !anyHost(leaf, hosts) {
			return fail("subject alternative names", fmt.Errorf("none of %s matches %q", names(leaf), hosts))
		}
	case len(v.sans) > 0:
		if !v.anySAN(leaf) {
			return fail("subject alternative names", fmt.Errorf("none of %s matches %s", names(leaf), v.wanted()))
		}
	}
	if len(extraHosts) > 0 && !anyHost(leaf, extraHosts) {
		return fail("subject alternative names", fmt.Errorf("none of %s matches %q", names(leaf), extraHosts))
	}
	return nil
}

func (v *verifier) checkChain(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) error {
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	found, err := chain[0].Verify(x509.VerifyOptions{
		Roots: v.anchors, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return err
	}
	// Several paths may exist (cross-signed roots); one that meets every demand is enough.
	for _, path := range found {
		if err = v.checkPath(path, now); err == nil {
			return nil
		}
	}
	return err
}

func (v *verifier) checkPath(path []*x509.Certificate, now time.Time) error {
	if inter := len(path) - 2; v.maxDepth >= 0 && inter > v.maxDepth {
		return fmt.Errorf("chain has %d intermediates, max_verify_depth is %d", inter, v.maxDepth)
	}
	if len(v.crls) == 0 {
		return nil
	}
	// As OpenSSL's CRL_CHECK_ALL: every certificate of the path needs a current list of its issuer, also
	// the self-signed root. An anchor that is not self-signed has no issuer here and is not checked.
	for i, c := range path {
		issuer := c
		if i+1 < len(path) {
			issuer = path[i+1]
		} else if !bytes.Equal(c.RawIssuer, c.RawSubject) {
			break
		}
		if err := v.checkRevoked(c, issuer, now); err != nil {
			return err
		}
		if v.crlLeafOnly {
			break
		}
	}
	return nil
}

func (v *verifier) checkRevoked(c, issuer *x509.Certificate, now time.Time) error {
	checked := false
	err := fmt.Errorf("no revocation list of issuer %q", issuer.Subject)
	for _, l := range v.crls {
		if !bytes.Equal(l.RawIssuer, issuer.RawSubject) {
			continue
		}
		if e := l.CheckSignatureFrom(issuer); e != nil {
			err = fmt.Errorf("revocation list of %q: %w", issuer.Subject, e)
			continue
		}
		if now.Before(l.ThisUpdate) || !l.NextUpdate.IsZero() && now.After(l.NextUpdate) {
			err = fmt.Errorf("revocation list of %q is valid from %s to %s only", issuer.Subject,
				l.ThisUpdate.Format(time.RFC3339), l.NextUpdate.Format(time.RFC3339))
			continue
		}
		for _, r := range l.RevokedCertificateEntries {
			if r.SerialNumber.Cmp(c.SerialNumber) == 0 {
				return fmt.Errorf("certificate %x was revoked at %s", c.SerialNumber, r.RevocationTime.Format(time.RFC3339))
			}
		}
		checked = true // not listed here; another list of the same issuer may still name it
	}
	if checked {
		return nil
	}
	return err
}

func (v *verifier) anySAN(c *x509.Certificate) bool {
	for _, m := range v.sans {
		if m.matches(c) {
			return true
		}
	}
	return false
}

func (v *verifier) wanted() string {
	out := make([]string, len(v.sans))
	for i, m := range v.sans {
		out[i] = m.text
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func anyHost(c *x509.Certificate, hosts []string) bool {
	for _, h := range hosts {
		if hostMatches(c, h) {
			return true
		}
	}
	return false
}

// names prints the subject alternative names of a certificate for an error message, the first few only:
// they are the peer's choice.
func names(c *x509.Certificate) string {
	all := append(uriSANs(c), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	const most = 5
	if len(all) > most {
		all = append(all[:most:most], "…")
	}
	return fmt.Sprintf("%q", all)
}
