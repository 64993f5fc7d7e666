package rbac

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	corev3 "github.com/cncf/xds/go/xds/core/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	sslv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/metadata/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/authz"
)

// input is an attribute that a matcher tree asks for.
type input struct {
	// text makes the condition that the attribute is there and its text matches. Nil: it is not text.
	text func(authz.Pattern) authz.Clause
	// is makes the condition that it is there and has this text.
	is func(string) authz.Clause
	// within makes the condition that it is there and is an IP address in one of the ranges.
	within func(...netip.Prefix) authz.Clause
	// metadata makes the condition of a metadata matcher; nil for all inputs but dynamic metadata.
	metadata func(*metadatav3.Metadata) (authz.Clause, error)
	// unknown holds when Envoy has no data for it and gives up; nil: never.
	unknown authz.Clause
}

// input translates the inputs that Envoy's RBAC filters take. Three of them are refused: the client's port, the network
// namespace, and environment variables of the proxy, because a Request has none of these; and CEL attributes, with CEL.
func (t *tree) input(ext *corev3.TypedExtensionConfig) (*input, error) {
	config := ext.GetTypedConfig()
	is := func(m proto.Message) bool { return config.MessageIs(m) }
	var key networkv3.FilterStateInput
	var header matcherv3.HttpRequestHeaderMatchInput
	var metadata networkv3.DynamicMetadataInput
	switch {
	case is(&header):
		if t.layer == network {
			return nil, fmt.Errorf("%w (a network filter sees no headers)", errNotSupported)
		}
		if err := unpack(config, &header); err != nil {
			return nil, err
		}
		return ofText(func(p authz.Pattern) authz.Clause {
			return &authz.Header{Name: header.GetHeaderName(), Pattern: p, Joined: true}
		}), nil
	case is(&metadata):
		if t.layer == network {
			return nil, fmt.Errorf("%w (Envoy takes no metadata in a network filter's tree either)", errNotSupported)
		}
		return dynamicMetadata(&metadata, unpack(config, &metadata))
	case is(&key):
		if err := unpack(config, &key); err != nil {
			return nil, err
		}
		if key.GetField() != "" {
			return nil, notSupported("field", "objects in filter state are strings")
		}
		return ofText(func(p authz.Pattern) authz.Clause { return &authz.FilterStateIs{Key: key.GetKey(), Pattern: p} }), nil
	case is(&networkv3.DestinationIPInput{}):
		return ofAddress(authz.DestinationIP), unpack(config, &networkv3.DestinationIPInput{})
	case is(&networkv3.SourceIPInput{}):
		// In Envoy this input, unlike source_ip of a principal, honours trusted forwarding headers.
		return ofAddress(authz.RemoteIP), unpack(config, &networkv3.SourceIPInput{})
	case is(&networkv3.DirectSourceIPInput{}):
		return ofAddress(authz.DirectRemoteIP), unpack(config, &networkv3.DirectSourceIPInput{})
	case is(&networkv3.DestinationPortInput{}):
		return destinationPort(), unpack(config, &networkv3.DestinationPortInput{})
	case is(&networkv3.ServerNameInput{}):
		return serverName(), unpack(config, &networkv3.ServerNameInput{})
	case is(&sslv3.UriSanInput{}):
		return ofCertificate(authz.URINames), unpack(config, &sslv3.UriSanInput{})
	case is(&sslv3.DnsSanInput{}):
		return ofCertificate(authz.DNSNames), unpack(config, &sslv3.DnsSanInput{})
	case is(&sslv3.SubjectInput{}):
		return ofCertificate(authz.Subject), unpack(config, &sslv3.SubjectInput{})
	}
	return nil, unknownExtension(config)
}

// ofText is an input that is only text.
func ofText(text func(authz.Pattern) authz.Clause) *input {
	return &input{
		text:   text,
		is:     func(s string) authz.Clause { return text(authz.Exact(s)) },
		within: func(ranges ...netip.Prefix) authz.Clause { return text(authz.AddressIn(ranges...)) },
	}
}

// ofAddress is an address, which Envoy compares in its usual text form.
func ofAddress(of authz.Address) *input {
	in := ofText(func(p authz.Pattern) authz.Clause { return &authz.AddressText{Of: of, Pattern: p} })
	is := in.is
	in.is = func(s string) authz.Clause {
		if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" && addr.String() == s {
			return &authz.IP{Of: of, Range: netip.PrefixFrom(addr, addr.BitLen())}
		}
		return is(s)
	}
	in.within = func(ranges ...netip.Prefix) authz.Clause {
		var any authz.Or
		for _, r := range ranges {
			any = append(any, &authz.IP{Of: of, Range: r})
		}
		return any
	}
	return in
}

func destinationPort() *input {
	in := ofText(func(p authz.Pattern) authz.Clause {
		return &authz.AddressText{Of: authz.DestinationIP, Port: true, Pattern: p}
	})
	is := in.is
	in.is = func(s string) authz.Clause {
		if port, err := strconv.ParseUint(s, 10, 16); err == nil && strconv.FormatUint(port, 10) == s {
			return &authz.DestinationPort{From: uint32(port), To: uint32(port) + 1}
		}
		return is(s)
	}
	return in
}

// serverName is not there when it is empty.
func serverName() *input {
	in := ofText(func(p authz.Pattern) authz.Clause {
		return authz.And{&authz.Not{Clause: &authz.ServerName{Pattern: authz.Exact("")}}, &authz.ServerName{Pattern: p}}
	})
	in.is = func(s string) authz.Clause {
		if s == "" {
			return authz.Or{}
		}
		return &authz.ServerName{Pattern: authz.Exact(s)}
	}
	return in
}

// ofCertificate is the names of one kind, with commas between them. Without TLS Envoy gives up, and denies.
func ofCertificate(names authz.CertificateNames) *input {
	in := ofText(func(p authz.Pattern) authz.Clause {
		return &authz.Certificate{Names: names, Joined: true, Pattern: p}
	})
	in.unknown = &authz.Not{Clause: &authz.Authenticated{}}
	return in
}

func dynamicMetadata(m *networkv3.DynamicMetadataInput, err error) (*input, error) {
	if err != nil {
		return nil, err
	}
	var path []string
	for i, segment := range m.GetPath() {
		key, ok := segment.GetSegment().(*networkv3.DynamicMetadataInput_PathSegment_Key)
		if !ok {
			return nil, at(fmt.Sprintf("path[%d]", i), errors.New("not a key"))
		}
		path = append(path, key.Key)
	}
	return &input{metadata: func(test *metadatav3.Metadata) (authz.Clause, error) {
		v, err := value(test.GetValue())
		return &authz.MetadataIs{Filter: m.GetFilter(), Path: path, Value: v, Invert: test.GetInvert()}, at("value", err)
	}}, nil
}
