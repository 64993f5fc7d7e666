package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"
)

// Peer is what a finished handshake proved, in the forms that policy, filter state, access log and
// forwarded-client-cert need.
type Peer struct {
	// URISAN is the peer's identity: its first `spiffe://` URI SAN, else its first URI SAN, else "".
	// Envoy's %DOWNSTREAM_PEER_URI_SAN% joins all URI SANs with commas. A SPIFFE certificate has exactly
	// one, and [ServerOptions.RequireSPIFFE] holds peers to that, so the two agree wherever policy looks.
	URISAN string
	// URISANs, DNSSANs and IPSANs list all names of each kind, in certificate order.
	URISANs, DNSSANs, IPSANs []string
	// Subject in RFC 2253 form, as %DOWNSTREAM_PEER_SUBJECT%; "" for Istio's certificates.
	Subject string
	// Issuer in RFC 2253 form.
	Issuer string
	// Serial is lower-case hexadecimal, as %DOWNSTREAM_PEER_SERIAL%.
	Serial string
	// Fingerprint is the lower-case hexadecimal SHA-256 of the certificate (the Hash of XFCC).
	Fingerprint string
	// LocalURISAN is the first URI SAN of our own certificate in this handshake.
	LocalURISAN string
	// TLSVersion as Envoy logs it ("TLSv1.3") and Cipher by its IANA name.
	TLSVersion, Cipher string
	// SNI that the client asked for; "" from ztunnel.
	SNI string
	// ALPN that was agreed on.
	ALPN string
}

// PeerOf reads a finished handshake. local is the certificate that was presented, which
// [tls.ConnectionState] does not hold; nil when none was. The state must come from a configuration made
// by this package: PeerOf does not verify anything again.
func PeerOf(cs *tls.ConnectionState, local *tls.Certificate) Peer {
	p := Peer{
		TLSVersion: strings.Replace(tls.VersionName(cs.Version), "TLS ", "TLSv", 1),
		Cipher:     tls.CipherSuiteName(cs.CipherSuite),
		SNI:        cs.ServerName,
		ALPN:       cs.NegotiatedProtocol,
	}
	if local != nil && local.Leaf != nil {
		p.LocalURISAN = identityOf(local.Leaf)
	}
	if len(cs.PeerCertificates) == 0 {
		return p
	}
	c := cs.PeerCertificates[0]
	sum := sha256.Sum256(c.Raw)
	p.URISAN = identityOf(c)
	p.URISANs = uriSANs(c)
	p.DNSSANs = c.DNSNames
	for _, ip := range c.IPAddresses {
		p.IPSANs = append(p.IPSANs, ip.String())
	}
	p.Subject = c.Subject.String()
	p.Issuer = c.Issuer.String()
	p.Serial = fmt.Sprintf("%x", c.SerialNumber)
	p.Fingerprint = hex.EncodeToString(sum[:])
	return p
}

// subjectAltName is the extension's object identifier, RFC 5280 section 4.2.1.6.
var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// uriSANs returns the URI names of a certificate byte for byte. c.URIs is not used: net/url re-encodes
// what it prints, and policy must compare what the CA signed.
func uriSANs(c *x509.Certificate) []string {
	if len(c.URIs) == 0 {
		return nil
	}
	for _, ext := range c.Extensions {
		if !ext.Id.Equal(subjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &names); err != nil || len(rest) > 0 {
			return nil // crypto/x509 has parsed the same bytes, so this is not reached
		}
		var uris []string
		for _, n := range names {
			if n.Class == asn1.ClassContextSpecific && n.Tag == 6 { // uniformResourceIdentifier [6]
				uris = append(uris, string(n.Bytes))
			}
		}
		return uris
	}
	return nil
}

func identityOf(c *x509.Certificate) string {
	uris := uriSANs(c)
	for _, u := range uris {
		if strings.HasPrefix(u, "spiffe://") {
			return u
		}
	}
	if len(uris) > 0 {
		return uris[0]
	}
	return ""
}
