package program

import (
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// ServerTLS is a DownstreamTlsContext. Secrets are the SDS names that it needs before a connection can be accepted.
type ServerTLS struct {
	// Key is equal for contexts with equal content: it is made of the message's bytes.
	Key     string
	Context *tlsv3.DownstreamTlsContext
	Secrets []string
}

// ClientTLS is an UpstreamTlsContext. Connections are pooled by Key, so that a push which changes nothing keeps them.
type ClientTLS struct {
	Key     string
	Context *tlsv3.UpstreamTlsContext
	Secrets []string
}
