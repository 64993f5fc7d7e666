package identity

import (
	"crypto/x509"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// SecretStatus is one entry of config_dump's SecretsConfigDump and of the admin page /certs.
type SecretStatus struct {
	Name string
	// Version is istiod's version for secrets from xDS, a digest of the public content for local ones,
	// and "uninitialized" (which istioctl shows as such) while Warming.
	Version     string
	LastUpdated time.Time
	// Secret as Envoy would dump it: private keys are replaced by "[redacted]". Shared; do not change it.
	Secret *tlsv3.Secret
	// Warming says that the secret is required and has not arrived; Why tells the reason.
	Warming bool
	Why     error
	// Chain is the certificate chain, leaf first; Anchors are the trusted CAs. One of them is set.
	Chain, Anchors []*x509.Certificate
}

// Secrets lists every secret that is held or required, sorted by name.
func (s *Store) Secrets() []SecretStatus {
	var out []SecretStatus
	for _, e := range s.all() {
		sec, err := e.load()
		switch {
		case err == nil:
			out = append(out, SecretStatus{
				Name: e.name, Version: sec.version, LastUpdated: sec.updated, Secret: sec.proto,
				Chain: sec.chain, Anchors: sec.anchors,
			})
		case e.wanted.Load():
			out = append(out, SecretStatus{
				Name: e.name, Version: "uninitialized", Secret: &tlsv3.Secret{Name: e.name}, Warming: true, Why: err,
			})
		}
	}
	return out
}

// Expiry returns when a secret ends to be valid: the leaf's NotAfter, or the earliest NotAfter of a trust
// bundle. It feeds `istio_agent_cert_expiry_seconds`; ok is false when the secret is not ready.
func (s *Store) Expiry(name string) (t time.Time, ok bool) {
	s.mu.Lock()
	e := s.entries[name]
	s.mu.Unlock()
	if e == nil {
		return time.Time{}, false
	}
	sec, err := e.load()
	if err != nil {
		return time.Time{}, false
	}
	return sec.expiry()
}
