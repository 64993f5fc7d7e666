package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/waypoint/program"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	proxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
)

// transport is a compiled upstream transport socket.
type transport struct {
	// hops are its layers in wire order: the PROXY header goes out first, in clear, then TLS (inventory 13.4).
	hops []program.Hop
	// hostMetadata are the namespaces of endpoint metadata that an internal listener gets to see.
	hostMetadata []string
	secrets      []Secret
	// refused says why nothing may be sent over this socket.
	refused error
}

// passes tells whether endpoint metadata of a namespace reaches the internal listener.
func (t *transport) passes(namespace string) bool {
	for _, n := range t.hostMetadata {
		if n == namespace {
			return true
		}
	}
	return false
}

// transport compiles a transport socket; nil is plaintext.
func (d *decoder) transport(ts *corev3.TransportSocket) *transport {
	t := &transport{}
	if ts == nil {
		return t
	}
	if ts.GetTypedConfig() == nil {
		// Envoy looks a socket without a configuration up by name.
		switch ts.GetName() {
		case "envoy.transport_sockets.raw_buffer", "raw_buffer":
			return t
		}
		t.refused = fmt.Errorf("transport_socket %q has no typed_config", ts.GetName())
		return t
	}
	e, err := d.any(ts.GetTypedConfig())
	if err != nil {
		t.refused = fmt.Errorf("transport_socket.typed_config: %w", err)
		return t
	}
	switch m := e.Message.(type) {
	case *rawv3.RawBuffer:
	case *tlsv3.UpstreamTlsContext:
		t.hops = []program.Hop{{TLS: clientTLS(m)}}
		t.secrets = secretsOf(m.GetCommonTlsContext())
	case *internalv3.InternalUpstreamTransport:
		return d.internalUpstream(m)
	case *proxyv3.ProxyProtocolUpstreamTransport:
		inner := d.transport(m.GetTransportSocket())
		v := program.ProxyV1
		if m.GetConfig().GetVersion() == corev3.ProxyProtocolConfig_V2 {
			v = program.ProxyV2
		}
		inner.hops = append([]program.Hop{{Proxy: v}}, inner.hops...)
		return inner
	default:
		t.refused = fmt.Errorf("transport_socket %q: %s is not supported", ts.GetName(), e.Type)
	}
	return t
}

func (d *decoder) internalUpstream(m *internalv3.InternalUpstreamTransport) *transport {
	t := d.transport(m.GetTransportSocket())
	for _, p := range m.GetPassthroughMetadata() {
		switch p.GetKind().GetKind().(type) {
		case *metadatav3.MetadataKind_Host_:
			t.hostMetadata = append(t.hostMetadata, p.GetName())
		case *metadatav3.MetadataKind_Cluster_:
			// Only baggage reads cluster metadata across an internal connection; peers are known here without it.
		default:
			t.refused = fmt.Errorf("passthrough_metadata %q: only kinds host and cluster can be passed on", p.GetName())
		}
	}
	return t
}

// contentKey is equal for messages with equal content.
func contentKey(m proto.Message) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil { // cannot happen for a message that was decoded; a key of its own keeps it apart from all others
		return fmt.Sprintf("%p", m)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

func clientTLS(m *tlsv3.UpstreamTlsContext) *program.ClientTLS {
	return &program.ClientTLS{Key: contentKey(m), Context: m, Secrets: secretNames(m.GetCommonTlsContext())}
}

func serverTLS(m *tlsv3.DownstreamTlsContext) *program.ServerTLS {
	return &program.ServerTLS{Key: contentKey(m), Context: m, Secrets: secretNames(m.GetCommonTlsContext())}
}

// sdsConfigs are the secrets that a TLS context asks for by name.
func sdsConfigs(c *tlsv3.CommonTlsContext) []*tlsv3.SdsSecretConfig {
	out := append([]*tlsv3.SdsSecretConfig(nil), c.GetTlsCertificateSdsSecretConfigs()...)
	if s := c.GetValidationContextSdsSecretConfig(); s != nil {
		out = append(out, s)
	}
	if s := c.GetCombinedValidationContext().GetValidationContextSdsSecretConfig(); s != nil {
		out = append(out, s)
	}
	return out
}

// Secret is a secret that a TLS context needs.
type Secret struct {
	Name string
	// ADS: istiod has it (kubernetes://, configmap://). Otherwise it is one of the workload's own (default, ROOTCA, file-*).
	ADS bool
}

func secretsOf(c *tlsv3.CommonTlsContext) []Secret {
	var out []Secret
	for _, s := range sdsConfigs(c) {
		out = append(out, Secret{s.GetName(), s.GetSdsConfig().GetAds() != nil})
	}
	return out
}

func secretNames(c *tlsv3.CommonTlsContext) []string {
	var names []string
	for _, s := range sdsConfigs(c) {
		names = append(names, s.GetName())
	}
	return names
}

// socketMatch is one of Cluster.transport_socket_matches.
type socketMatch struct {
	name  string
	match map[string]string
	*transport
}

// matchNamespace is where endpoints say which socket they want.
const matchNamespace = "envoy.transport_socket_match"

// transportFor picks the socket of an endpoint: the first whose criteria all hold, else the cluster's own.
func (b *clusterBase) transportFor(ep *endpointv3.LbEndpoint) *transport {
	have := ep.GetMetadata().GetFilterMetadata()[matchNamespace].GetFields()
next:
	for _, m := range b.matches {
		for k, want := range m.match {
			if have[k] == nil || have[k].GetStringValue() != want {
				continue next
			}
		}
		return m.transport
	}
	return b.socket
}
