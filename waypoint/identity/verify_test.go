package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestVerifierLimits(t *testing.T) {
	root := newTestCA(t, "root", nil)
	inter := newTestCA(t, "intermediate", root)
	pem, _ := inter.issue(t, leaf{uris: []string{clientID}, dns: []string{"a.example.com"}})
	chain := append(must(parseCertificates(pem)), inter.cert)
	hash, spki := sha256.Sum256(chain[0].Raw), sha256.Sum256(chain[0].RawSubjectPublicKeyInfo)
	other := sha256.Sum256([]byte("other"))
	colons := strings.TrimSuffix(strings.ToUpper(fmt.Sprintf("% x", hash)), " ")
	colons = strings.ReplaceAll(colons, " ", ":")
	trusted := func() *tlsv3.CertificateValidationContext {
		return &tlsv3.CertificateValidationContext{TrustedCa: inline(root.pem)}
	}
	for _, tc := range []struct {
		name  string
		ctx   func(*tlsv3.CertificateValidationContext)
		after time.Duration
		err   string
	}{
		{name: "plain", ctx: func(*tlsv3.CertificateValidationContext) {}},
		{name: "depth 1 allows one intermediate", ctx: func(c *tlsv3.CertificateValidationContext) { c.MaxVerifyDepth = wrapperspb.UInt32(1) }},
		{name: "depth 0", ctx: func(c *tlsv3.CertificateValidationContext) { c.MaxVerifyDepth = wrapperspb.UInt32(0) }, err: "chain has 1 intermediates"},
		{name: "hash", ctx: func(c *tlsv3.CertificateValidationContext) {
			c.VerifyCertificateHash = []string{hex.EncodeToString(other[:]), hex.EncodeToString(hash[:])}
		}},
		{name: "hash with colons", ctx: func(c *tlsv3.CertificateValidationContext) { c.VerifyCertificateHash = []string{colons} }},
		{name: "other hash", ctx: func(c *tlsv3.CertificateValidationContext) {
			c.VerifyCertificateHash = []string{hex.EncodeToString(other[:])}
		}, err: "pinned certificate"},
		{name: "either hash or key", ctx: func(c *tlsv3.CertificateValidationContext) {
			c.VerifyCertificateHash = []string{hex.EncodeToString(other[:])}
			c.VerifyCertificateSpki = []string{base64.StdEncoding.EncodeToString(spki[:])}
		}},
		{name: "leaf list only", ctx: func(c *tlsv3.CertificateValidationContext) {
			c.Crl, c.OnlyVerifyLeafCertCrl = inline(inter.crl(t)), true
		}},
		{name: "list out of date", after: 90 * time.Minute, ctx: func(c *tlsv3.CertificateValidationContext) {
			c.Crl = inline(append(root.crl(t), inter.crl(t)...))
		}, err: "is valid from"},
		{name: "list signed by another", ctx: func(c *tlsv3.CertificateValidationContext) {
			c.Crl = inline(append(root.crl(t), newTestCA(t, "intermediate", root).crl(t)...))
		}, err: "revocation list of"},
		{name: "intermediate as anchor", ctx: func(c *tlsv3.CertificateValidationContext) { c.TrustedCa = inline(inter.pem) }},
		{name: "untyped names", ctx: func(c *tlsv3.CertificateValidationContext) {
			must(0, protojson.Unmarshal([]byte(`{"match_subject_alt_names": [{"exact": "`+clientID+`"}]}`), c))
			c.TrustedCa = inline(root.pem)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx := trusted()
			tc.ctx(ctx)
			v, err := newVerifier(".", "v", ctx)
			if err != nil {
				t.Fatal(err)
			}
			certs := chain
			now := time.Now()
			if tc.after > 0 { // later than the leaf's usual end: issue one that lives on
				long, _ := inter.issue(t, leaf{uris: []string{clientID}, notAfter: now.Add(12 * time.Hour)})
				certs = append(must(parseCertificates(long)), inter.cert)
			}
			wantError(t, v.check(certs, x509.ExtKeyUsageClientAuth, now.Add(tc.after), nil, nil), tc.err)
		})
	}
}

func TestDNSNameMatch(t *testing.T) {
	for _, tc := range []struct {
		want, have string
		ok         bool
	}{
		{"a.example.com", "a.example.com", true},
		{"A.example.COM", "a.EXAMPLE.com", true},
		{"a.example.com", "*.example.com", true},
		{"a.b.example.com", "*.example.com", false},
		{"example.com", "*.example.com", false},
		{".example.com", "*.example.com", false},
		{"a.example.com", "a*.example.com", false},
		{"a.example.com", "*", false},
		{"com", "*.", false},
		{"a.com", "*.com", true},
	} {
		if got := dnsNameMatch(tc.want, tc.have); got != tc.ok {
			t.Errorf("%s against %s: %v", tc.want, tc.have, got)
		}
	}
}

// Identities are compared byte for byte: what net/url would print differs.
func TestURISANsAreRaw(t *testing.T) {
	ca := newTestCA(t, "mesh", nil)
	const odd = "spiffe://cluster.local/ns/a%2Fb/sa/x%41"
	pem, _ := ca.issue(t, leaf{uris: []string{odd}})
	c := must(parseCertificates(pem))[0]
	if got := uriSANs(c); len(got) != 1 || got[0] != odd {
		t.Errorf("%q", got)
	}
}
