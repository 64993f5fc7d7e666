package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// ClientOptions adds demands that xDS does not express.
type ClientOptions struct {
	// RequireALPN refuses servers that do not agree to this protocol; for HBONE "h2".
	RequireALPN string
}

// ConnectionOptions are known only when a connection is made.
type ConnectionOptions struct {
	// HostName of the endpoint; it is the SNI when the context sets auto_host_sni.
	HostName string
	// SNI replaces the context's sni when not empty (auto_sni of the HTTP protocol options).
	SNI string
	// VerifyHosts demands that the server's certificate names one of these, in addition to what the
	// context demands (auto_san_validation of the HTTP protocol options). Empty: nothing more.
	VerifyHosts []string
	// ALPN replaces the context's protocols when not nil.
	ALPN []string
}

// ClientContext is a compiled UpstreamTlsContext.
type ClientContext struct {
	common
	options     ClientOptions
	sni         string
	autoHostSNI bool
	verifySNI   bool
}

// ClientTLS compiles an UpstreamTlsContext. The error names the field that is refused. Without a
// validation context the server is not verified, as in Envoy; [ClientContext.Notes] then says so.
func (s *Store) ClientTLS(ctx *tlsv3.UpstreamTlsContext, o ClientOptions) (*ClientContext, error) {
	base, err := s.compileCommon(ctx, ctx.GetCommonTlsContext(), false)
	if err != nil {
		return nil, err
	}
	c := &ClientContext{
		common: *base, options: o, sni: ctx.GetSni(),
		autoHostSNI: ctx.GetAutoHostSni(), verifySNI: ctx.GetAutoSniSanValidation(),
	}
	if o.RequireALPN != "" && !slices.Contains(c.alpn, o.RequireALPN) {
		return nil, fieldErrorf(commonPath+".alpn_protocols", "must contain %q here, has %q", o.RequireALPN, c.alpn)
	}
	if c.validation == nil {
		if c.verifySNI {
			return nil, fieldErrorf("auto_sni_san_validation", "needs a validation context with trusted_ca: names without a verified chain prove nothing")
		}
		c.notes = append(c.notes, Note{commonPath + ".validation_context",
			"is absent or trusts nothing: the server's certificate is NOT verified, any server is believed; set caCertificates (DestinationRule tls) to verify it"})
	}
	return c, nil
}

// Config returns the configuration for one connection. It may be kept for connections with equal options;
// certificate and trust bundle are looked up in each handshake. Use [ClientContext.Ready] before dialling
// to get the reason for a secret that is missing.
func (c *ClientContext) Config(o ConnectionOptions) *tls.Config {
	alpn := c.alpn
	if o.ALPN != nil {
		alpn = o.ALPN
	}
	cfg := c.params.config(alpn)
	cfg.ServerName = c.sni
	if c.autoHostSNI && o.HostName != "" {
		cfg.ServerName = o.HostName
	}
	if o.SNI != "" {
		cfg.ServerName = o.SNI
	}
	sni, extra := cfg.ServerName, slices.Clone(o.VerifyHosts)
	// crypto/tls can verify a chain only together with a host name, which mesh certificates do not have.
	// InsecureSkipVerify turns that off; VerifyConnection, which is called all the same and always, does
	// the whole verification.
	cfg.InsecureSkipVerify = true //nolint:gosec // replaced by VerifyConnection
	cfg.VerifyConnection = func(cs tls.ConnectionState) error { return c.verify(&cs, sni, extra) }
	if len(c.certs) > 0 {
		cfg.GetClientCertificate = c.certificate
	}
	return cfg
}

// certificate answers a certificate request. Like Envoy it does not look at the acceptable CAs that the
// server names: during a root rotation they may lag behind.
func (c *ClientContext) certificate(req *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	anyCA := *req
	anyCA.AcceptableCAs = nil
	var first *tls.Certificate
	for _, ref := range c.certs {
		cert, err := ref.load()
		if err != nil {
			return nil, err
		}
		if len(c.certs) == 1 || anyCA.SupportsCertificate(cert) == nil {
			return cert, nil
		}
		if first == nil {
			first = cert
		}
	}
	return first, nil
}

func (c *ClientContext) verify(cs *tls.ConnectionState, sni string, extra []string) error {
	if err := c.Ready(); err != nil { // a server that asks for no certificate must not make a missing one go unseen
		return err
	}
	if err := c.params.checkNegotiated(cs); err != nil {
		return err
	}
	if p := c.options.RequireALPN; p != "" && cs.NegotiatedProtocol != p {
		return fmt.Errorf("server negotiated ALPN %q, %q is required", cs.NegotiatedProtocol, p)
	}
	if c.validation == nil {
		if len(extra) > 0 {
			return errors.New("auto_san_validation needs a validation context with trusted_ca")
		}
		return nil // noted when the context was compiled
	}
	if len(cs.PeerCertificates) == 0 {
		return &VerifyError{Stage: "no certificate", Err: errors.New("the server sent none")}
	}
	v, err := c.validation.load()
	if err != nil {
		return err
	}
	var hosts []string
	if c.verifySNI && sni != "" {
		hosts = []string{sni}
	}
	if (len(hosts) > 0 || len(extra) > 0) && v.anchors == nil {
		return errors.New("names cannot be verified without trusted_ca")
	}
	return v.check(cs.PeerCertificates, x509.ExtKeyUsageServerAuth, c.store.now(), hosts, extra)
}
