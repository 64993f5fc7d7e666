package identity

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
)

// common is what server and client contexts share: a compiled CommonTlsContext.
type common struct {
	store      *Store
	params     parameters
	alpn       []string
	certs      []certificateRef
	validation *validationRef // nil: peers are not verified
	notes      []Note
	entries    []*entry
}

// certificateRef is a certificate given inline or by secret name.
type certificateRef struct {
	fixed *tls.Certificate
	entry *entry
}

func (r certificateRef) load() (*tls.Certificate, error) {
	if r.entry == nil {
		return r.fixed, nil
	}
	sec, err := r.entry.load()
	if err != nil {
		return nil, err
	}
	if sec.certificate == nil {
		return nil, fmt.Errorf("secret %q is not a certificate", r.entry.name)
	}
	return sec.certificate, nil
}

// validationRef yields the verifier in force. A context that names a secret is merged with the secret's
// current version as Envoy does it: the secret's scalars win, lists are appended.
type validationRef struct {
	root  string
	path  string
	base  *tlsv3.CertificateValidationContext
	fixed *verifier // set when no secret is named
	entry *entry
	cache atomic.Pointer[mergedVerifier]
}

type mergedVerifier struct {
	from *secret
	v    *verifier
	err  error
}

func (r *validationRef) load() (*verifier, error) {
	if r.entry == nil {
		return r.fixed, nil
	}
	sec, err := r.entry.load()
	if err != nil {
		return nil, err
	}
	if c := r.cache.Load(); c != nil && c.from == sec {
		return c.v, c.err
	}
	// Two handshakes may both compile; the results are equal.
	m := &mergedVerifier{from: sec}
	m.v, m.err = r.merge(sec)
	r.cache.Store(m)
	return m.v, m.err
}

func (r *validationRef) merge(sec *secret) (*verifier, error) {
	if sec.validation == nil {
		return nil, fmt.Errorf("secret %q is not a validation context", sec.name)
	}
	merged := &tlsv3.CertificateValidationContext{}
	if r.base != nil {
		merged = proto.Clone(r.base).(*tlsv3.CertificateValidationContext)
	}
	proto.Merge(merged, sec.validation)
	v, err := newVerifier(r.root, r.path, merged)
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", sec.name, err)
	}
	if !v.verifiesAnything() {
		// The author meant peers to be verified and named a secret for it.
		return nil, fmt.Errorf("secret %q has no trusted CA", sec.name)
	}
	return v, nil
}

const commonPath = "common_tls_context"

// compileCommon compiles ctx and requires its secrets from the store. Notes and refusals of the whole
// message outer, which holds ctx, are included.
func (s *Store) compileCommon(outer proto.Message, ctx *tlsv3.CommonTlsContext, server bool) (*common, error) {
	notes, err := census(outer)
	if err != nil {
		return nil, err
	}
	c := &common{store: s, alpn: slices.Clone(ctx.GetAlpnProtocols()), notes: notes}
	params, more, err := compileParams(ctx.GetTlsParams(), server)
	if err != nil {
		return nil, err
	}
	c.params, c.notes = params, append(c.notes, more...)
	for i, tc := range ctx.GetTlsCertificates() {
		pair, _, err := parseTLSCertificate(s.root, fmt.Sprintf("%s.tls_certificates[%d]", commonPath, i), tc)
		if err != nil {
			return nil, err
		}
		c.certs = append(c.certs, certificateRef{fixed: pair})
	}
	for i, sds := range ctx.GetTlsCertificateSdsSecretConfigs() {
		e, err := c.require(fmt.Sprintf("%s.tls_certificate_sds_secret_configs[%d].name", commonPath, i), sds)
		if err != nil {
			return nil, err
		}
		c.certs = append(c.certs, certificateRef{entry: e})
	}
	if c.validation, err = c.compileValidation(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *common) require(path string, sds *tlsv3.SdsSecretConfig) (*entry, error) {
	if sds.GetName() == "" {
		return nil, fieldErrorf(path, "is empty; a secret needs a name")
	}
	e := c.store.lookup(sds.GetName(), true)
	c.entries = append(c.entries, e)
	return e, nil
}

func (c *common) compileValidation(ctx *tlsv3.CommonTlsContext) (*validationRef, error) {
	ref := &validationRef{root: c.store.root}
	var sds *tlsv3.SdsSecretConfig
	switch t := ctx.GetValidationContextType().(type) {
	case nil:
		return nil, nil
	case *tlsv3.CommonTlsContext_ValidationContext:
		ref.path, ref.base = commonPath+".validation_context", t.ValidationContext
	case *tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig:
		ref.path, sds = commonPath+".validation_context_sds_secret_config", t.ValidationContextSdsSecretConfig
	case *tlsv3.CommonTlsContext_CombinedValidationContext:
		ref.path = commonPath + ".combined_validation_context.default_validation_context"
		ref.base = t.CombinedValidationContext.GetDefaultValidationContext()
		sds = t.CombinedValidationContext.GetValidationContextSdsSecretConfig()
		if sds == nil {
			return nil, fieldErrorf(commonPath+".combined_validation_context.validation_context_sds_secret_config", "is missing")
		}
	default:
		return nil, fieldErrorf(commonPath+".validation_context_type", "%T is not supported", t)
	}
	if sds != nil {
		e, err := c.require(ref.path+".name", sds)
		if err != nil {
			return nil, err
		}
		ref.entry = e
		return ref, ref.checkBase()
	}
	var err error
	if ref.fixed, err = newVerifier(c.store.root, ref.path, ref.base); err != nil {
		return nil, err
	}
	if !ref.fixed.verifiesAnything() {
		return nil, nil
	}
	return ref, nil
}

// checkBase compiles the default context by itself, so that a bad matcher is refused when the
// configuration arrives and not at the first handshake. Only the trusted CA may come later.
func (r *validationRef) checkBase() error {
	if r.base == nil {
		return nil
	}
	probe := proto.Clone(r.base).(*tlsv3.CertificateValidationContext)
	matchers := probe.MatchTypedSubjectAltNames
	probe.MatchTypedSubjectAltNames, probe.Crl = nil, nil
	probe.MatchSubjectAltNames = nil //nolint:staticcheck // deprecated, still honoured
	if _, err := newVerifier(r.root, r.path, probe); err != nil {
		return err
	}
	for i, m := range matchers {
		if _, err := newSANMatcher(fmt.Sprintf("%s.match_typed_subject_alt_names[%d]", r.path, i), m); err != nil {
			return err
		}
	}
	return nil
}

// Ready returns nil when every secret of the context has arrived, else the errors of those that have not.
// Until then all its handshakes fail.
func (c *common) Ready() error {
	var errs []error
	for _, cert := range c.certs {
		_, err := cert.load()
		errs = append(errs, err)
	}
	if c.validation != nil {
		_, err := c.validation.load()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// SecretNames lists the secrets that the context looks up, for warming and for SDS subscriptions.
func (c *common) SecretNames() []string {
	out := make([]string, len(c.entries))
	for i, e := range c.entries {
		out[i] = e.name
	}
	return out
}

// Notes lists the fields that are not honoured and the weaknesses of the configuration.
func (c *common) Notes() []Note { return slices.Clone(c.notes) }

// Peer describes the peer of a finished handshake made with this context.
func (c *common) Peer(cs *tls.ConnectionState) Peer {
	var local *tls.Certificate
	if len(c.certs) > 0 {
		local, _ = c.certs[0].load() // not ready any more: the local name stays empty
	}
	return PeerOf(cs, local)
}
