package xdsclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Config says where the control plane is, who we are and what we want of it. It must not be changed after [New].
type Config struct {
	// Target is the control plane's host:port. Required.
	Target string

	// Plaintext connects without TLS, as to istiod's :15010. The token is not sent then.
	Plaintext bool
	// RootCAs returns the certificates that may have signed the control plane's. It is called before each connection, so that a
	// rotated root holds from the next one on. Required unless Plaintext: there is no silent fall-back to the system's roots.
	RootCAs func() (*x509.CertPool, error)
	// ServerName is the name in the control plane's certificate. Default: the host of Target.
	ServerName string
	// ClientCertificate, if not nil, is called before each connection for a client certificate. Istio needs none: the token
	// authenticates.
	ClientCertificate func() (*tls.Certificate, error)

	// Token returns the bearer token. It is called before each connection, since projected tokens are rotated. Nil: no token.
	Token func() (string, error)
	// Metadata is sent with the stream: istiod wants ClusterID, users add XDS_HEADER_*.
	Metadata map[string]string

	// Node is what we are. Its id must not be empty. It is sent with the first request of each stream.
	Node *corev3.Node
	// Wildcard lists the types of which everything is subscribed. For a waypoint: TypeCluster, TypeListener, TypeWorkload. Other
	// types are subscribed by name, see [Client.SetNames].
	Wildcard []string
	// DigestOnly lists types of which the cache keeps the SHA-256 instead of the bytes, to save memory where nothing echoes
	// them (TypeWorkload). Unchanged resources are still recognised.
	DigestOnly []string

	// Backoff says how long to wait between connections.
	Backoff Backoff
	// Logger gets one record when the connection's state or the reason of its failure changes, and one when what is rejected changes.
	// Default: slog.Default().
	Logger *slog.Logger
}

// Defaults and fixed values, each with its reason.
const (
	// defaultInitialBackoff is Envoy's (500 ms): a restarted istiod takes seconds to be ready, and one that recycled the connection
	// has replicas that are ready now.
	defaultInitialBackoff = 500 * time.Millisecond
	// defaultMaxBackoff is Envoy's (30 s): long enough for thousands of waypoints to stay below istiod's limit of at most 100 new
	// streams a second, short enough for an outage's end to be noticed.
	defaultMaxBackoff = 30 * time.Second

	// connectTimeout bounds TCP, TLS and HTTP/2 set-up together; the value of Istio's agent.
	connectTimeout = 5 * time.Second
	// keepaliveTime and keepaliveTimeout detect a peer that vanished without a FIN within 40 s; the values of Istio's agent, which
	// istiod's enforcement policy allows.
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	// window is the HTTP/2 flow-control window of the stream and the connection, as Istio's agent sets it. A full push is
	// several MiB, and the default of 64 KiB would cost a round trip per 64 KiB.
	window = 1 << 20
)

// withDefaults checks a Config and fills in what is missing.
func (c Config) withDefaults() (Config, error) {
	host, port, err := net.SplitHostPort(c.Target)
	if err != nil || host == "" || port == "" {
		return c, fmt.Errorf("xdsclient: Target %q is not host:port; set it to istiod's discovery address, such as istiod.istio-system.svc:15012", c.Target)
	}
	if c.Node.GetId() == "" {
		return c, errors.New("xdsclient: Node.id is empty; istiod refuses a stream without it")
	}
	if !c.Plaintext && c.RootCAs == nil {
		return c, errors.New("xdsclient: RootCAs is nil; give the roots of the control plane's certificate, or set Plaintext")
	}
	if c.ServerName == "" {
		c.ServerName = host
	}
	c.Backoff = c.Backoff.withDefaults()
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}
