package rbac

import (
	"errors"
	"fmt"

	mtlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/rbac/principals/mtls_authenticated/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/authz"
)

// unknownExtension is the error about an extension that is not one of those that a place may have.
func unknownExtension(config *anypb.Any) error {
	return fmt.Errorf("%w (extension %s)", errNotSupported, config.GetTypeUrl())
}

// unpack reads the configuration of an extension, with the checks of validate.
func unpack(config *anypb.Any, m interface {
	proto.Message
	Validate() error
}) error {
	if err := config.UnmarshalTo(m); err != nil {
		return err
	}
	return validate(m)
}

// custom translates a principal extension. There is one: envoy.rbac.principals.mtls_authenticated.
func custom(config *anypb.Any) (authz.Clause, error) {
	var m mtlsv3.Config
	if !config.MessageIs(&m) {
		return nil, unknownExtension(config)
	}
	if err := unpack(config, &m); err != nil {
		return nil, err
	}
	switch san := m.GetSanMatcher(); {
	case san != nil: // a name implies a certificate, so the other field adds nothing
		c, err := subjectAltName(san)
		return c, at("san_matcher", err)
	case m.GetAnyValidatedClientCertificate():
		return &authz.Certificate{Names: authz.AnyName}, nil
	}
	return nil, errors.New("neither san_matcher nor any_validated_client_certificate is set")
}

// subjectAltName translates a test of one kind of name. The kinds that a Request does not have are refused.
func subjectAltName(m *tlsv3.SubjectAltNameMatcher) (authz.Clause, error) {
	pattern, err := stringMatch(m.GetMatcher())
	if err != nil {
		return nil, at("matcher", err)
	}
	switch m.GetSanType() {
	case tlsv3.SubjectAltNameMatcher_URI:
		return &authz.Certificate{Names: authz.URINames, Pattern: pattern}, nil
	case tlsv3.SubjectAltNameMatcher_DNS:
		// As in Envoy, an exact name is a host, and the certificate's own wildcards count.
		if host, ok := m.GetMatcher().GetMatchPattern().(*matcherv3.StringMatcher_Exact); ok && host.Exact != "" {
			return &authz.Certificate{Names: authz.DNSNames, Host: host.Exact}, nil
		}
		return &authz.Certificate{Names: authz.DNSNames, Pattern: pattern}, nil
	}
	return nil, notSupported("san_type", m.GetSanType().String())
}
