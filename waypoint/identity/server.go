package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// ServerOptions adds demands that xDS does not express.
type ServerOptions struct {
	// RequireALPN refuses clients that do not offer this protocol; for HBONE "h2". Envoy serves clients
	// without ALPN on 15008, and guesses their protocol.
	RequireALPN string
	// RequireSPIFFE demands a verified client certificate with exactly one URI SAN, a `spiffe://` one, as
	// the SPIFFE X.509-SVID specification (section 2) does. Envoy would join several into one principal
	// that no policy names, and so pass a DENY for each of them. Set it for HBONE.
	RequireSPIFFE bool
}

// ServerContext is a compiled DownstreamTlsContext.
type ServerContext struct {
	common
	options     ServerOptions
	clientCert  tls.ClientAuthType
	requireSNI  bool
	staticState *tls.Config
}

// ServerTLS compiles a DownstreamTlsContext. The error names the field that is refused.
//
// Differences from Envoy, all stricter: a client certificate that is demanded without a trusted CA is an
// error (Envoy takes any, and its names with it); sessions are never resumed; the list of acceptable CAs
// is not sent, which only clients with several certificates look at.
func (s *Store) ServerTLS(ctx *tlsv3.DownstreamTlsContext, o ServerOptions) (*ServerContext, error) {
	base, err := s.compileCommon(ctx, ctx.GetCommonTlsContext(), true)
	if err != nil {
		return nil, err
	}
	c := &ServerContext{common: *base, options: o, requireSNI: ctx.GetRequireSni().GetValue()}
	if len(c.certs) == 0 {
		return nil, fieldErrorf(commonPath+".tls_certificate_sds_secret_configs", "a server needs a certificate")
	}
	required := ctx.GetRequireClientCertificate().GetValue()
	switch {
	case required && c.validation == nil:
		return nil, fieldErrorf("require_client_certificate", "needs a validation context with trusted_ca: an unverified certificate proves no identity")
	case o.RequireSPIFFE && !required:
		return nil, fieldErrorf("require_client_certificate", "must be true where the client's identity is used")
	case o.RequireALPN != "" && !slices.Contains(c.alpn, o.RequireALPN):
		return nil, fieldErrorf(commonPath+".alpn_protocols", "must contain %q here, has %q", o.RequireALPN, c.alpn)
	case required:
		c.clientCert = tls.RequireAnyClientCert
	case c.validation != nil:
		c.clientCert = tls.RequestClientCert
	default:
		c.clientCert = tls.NoClientCert
	}
	c.staticState = c.build()
	return c, nil
}

// Config returns the configuration to accept connections with. It stays valid over rotations: the
// certificate and the trust bundle are looked up in each handshake. Do not change it.
func (c *ServerContext) Config() *tls.Config { return c.staticState }

func (c *ServerContext) build() *tls.Config {
	cfg := c.params.config(c.alpn)
	// crypto/tls only collects the client's certificate; verify does what Envoy's validator would.
	cfg.ClientAuth = c.clientCert
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) { return nil, c.admit(hello) }
	cfg.GetCertificate = c.certificate
	cfg.VerifyConnection = c.verify
	return cfg
}

// admit looks at the ClientHello, before any costly computation.
func (c *ServerContext) admit(hello *tls.ClientHelloInfo) error {
	if err := c.Ready(); err != nil {
		return err
	}
	if c.requireSNI && hello.ServerName == "" {
		return errors.New("client sent no server name, require_sni is set")
	}
	if p := c.options.RequireALPN; p != "" && !slices.Contains(hello.SupportedProtos, p) {
		return fmt.Errorf("client offers ALPN %q, %q is required", hello.SupportedProtos, p)
	}
	return nil
}

// certificate picks the first certificate whose key and names suit the client, or else the first.
func (c *ServerContext) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	var first *tls.Certificate
	for _, ref := range c.certs {
		cert, err := ref.load()
		if err != nil {
			return nil, err
		}
		if len(c.certs) == 1 || hello.SupportsCertificate(cert) == nil {
			return cert, nil
		}
		if first == nil {
			first = cert
		}
	}
	return first, nil
}

func (c *ServerContext) verify(cs tls.ConnectionState) error {
	if err := c.params.checkNegotiated(&cs); err != nil {
		return err
	}
	if p := c.options.RequireALPN; p != "" && cs.NegotiatedProtocol != p {
		return fmt.Errorf("negotiated ALPN %q, %q is required", cs.NegotiatedProtocol, p)
	}
	if c.validation == nil {
		return nil
	}
	if len(cs.PeerCertificates) == 0 {
		if c.clientCert == tls.RequestClientCert {
			return nil // optional, and none was sent
		}
		return &VerifyError{Stage: "no certificate", Err: errors.New("the client sent none")}
	}
	v, err := c.validation.load()
	if err != nil {
		return err
	}
	if err := v.check(cs.PeerCertificates, x509.ExtKeyUsageClientAuth, c.store.now(), nil, nil); err != nil {
		return err
	}
	if c.options.RequireSPIFFE {
		return checkSPIFFE(cs.PeerCertificates[0])
	}
	return nil
}

func checkSPIFFE(leaf *x509.Certificate) error {
	uris := uriSANs(leaf)
	if len(uris) != 1 || !strings.HasPrefix(uris[0], "spiffe://") {
		return &VerifyError{Stage: "identity", Peer: identityOf(leaf),
			Err: fmt.Errorf("a SPIFFE certificate has exactly one URI name, this one has %q", uris)}
	}
	return nil
}
