package format

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// handshake makes an operator of what a downstream TLS handshake proved; empty is absent.
func handshake(get func(*telemetry.TLS) string) operator {
	return str(func(r *record) string {
		if r.TLS == nil || r.TLS.State == nil {
			return ""
		}
		return get(r.TLS)
	})
}

// ofPeer makes an operator of the peer's certificate.
func ofPeer(get func(*x509.Certificate) string) operator {
	return handshake(func(t *telemetry.TLS) string {
		if c := t.Peer(); c != nil {
			return get(c)
		}
		return ""
	})
}

// ofChain joins a text of each certificate that the peer sent.
func ofChain(get func(*x509.Certificate) string) operator {
	return handshake(func(t *telemetry.TLS) string {
		var all []string
		for _, c := range t.State.PeerCertificates {
			all = append(all, get(c))
		}
		return strings.Join(all, ",")
	})
}

func subject(c *x509.Certificate) string { return c.Subject.String() } // RFC 2253, as Envoy
func issuer(c *x509.Certificate) string  { return c.Issuer.String() }
func serial(c *x509.Certificate) string  { return telemetry.SerialText(c.SerialNumber) }
func dns(c *x509.Certificate) string     { return strings.Join(c.DNSNames, ",") }
func emails(c *x509.Certificate) string  { return strings.Join(c.EmailAddresses, ",") }

func uris(c *x509.Certificate) string { return joined(c.URIs, (*url.URL).String) }

func ips(c *x509.Certificate) string {
	var all []string
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	return strings.Join(all, ",")
}

func joined[T any](list []T, s func(T) string) string {
	all := make([]string, len(list))
	for i := range list {
		all[i] = s(list[i])
	}
	return strings.Join(all, ",")
}

// peerURISAN is the peer's identity: that of the connection itself, or of the tunnel that it is in.
func peerURISAN() operator {
	direct := ofPeer(uris)
	tunnel := str(func(r *record) string { return r.PeerPrincipal })
	return func(dst []byte, r *record) ([]byte, kind) {
		if out, k := direct(dst, r); k != absent {
			return out, k
		}
		return tunnel(dst, r)
	}
}

func group(t *telemetry.TLS) string {
	switch id := t.State.CurveID; id {
	case 0:
		return ""
	case tls.CurveP256:
		return "P-256"
	case tls.CurveP384:
		return "P-384"
	default:
		return id.String()
	}
}

func cipher(t *telemetry.TLS) string { return tls.CipherSuiteName(t.State.CipherSuite) }

// validity is …_PEER_CERT_V_START and …_V_END, with a time format as that of START_TIME.
func validity(get func(*x509.Certificate) time.Time) func(part, Options) (operator, error) {
	return timeOperator(false, func(r *record) (time.Time, bool) {
		c := r.TLS.Peer()
		if c == nil {
			return time.Time{}, false
		}
		return get(c), true
	})
}
