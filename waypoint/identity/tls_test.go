package identity

import (
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	waypointID = "spiffe://cluster.local/ns/default/sa/waypoint"
	clientID   = "spiffe://cluster.local/ns/app/sa/client"
)

var hbone = ServerOptions{RequireALPN: "h2", RequireSPIFFE: true}

func hboneServer(t testing.TB, s *Store) *ServerContext {
	t.Helper()
	return must(s.ServerTLS(downstream(t, `{`+hboneCommon+`, "require_client_certificate": true}`), hbone))
}

func TestHBONEServerDecidesByCertificate(t *testing.T) {
	ca, other := newTestCA(t, "mesh", nil), newTestCA(t, "other", nil)
	server := hboneServer(t, newWorkload(t, ca, waypointID))
	for _, tc := range []struct {
		name string
		ca   *testCA
		leaf leaf
		cfg  func(*tls.Config)
		err  string
	}{
		{name: "good", ca: ca, leaf: leaf{uris: []string{clientID}}},
		{name: "no extended key usage serves all roles", ca: ca, leaf: leaf{uris: []string{clientID}, usages: []x509.ExtKeyUsage{}}},
		{name: "wrong trust domain", ca: ca, leaf: leaf{uris: []string{"spiffe://evil.local/ns/app/sa/client"}},
			err: `certificate of spiffe://evil.local/ns/app/sa/client refused (subject alternative names)`},
		{name: "trust domain as a prefix only", ca: ca, leaf: leaf{uris: []string{"spiffe://cluster.local.evil/ns/app/sa/client"}}, err: "subject alternative names"},
		{name: "DNS name instead of URI", ca: ca, leaf: leaf{dns: []string{"spiffe.cluster.local"}}, err: "subject alternative names"},
		{name: "unknown root", ca: other, leaf: leaf{uris: []string{clientID}}, err: "signed by unknown authority"},
		{name: "expired", ca: ca, leaf: leaf{uris: []string{clientID}, notBefore: time.Now().Add(-time.Hour), notAfter: time.Now().Add(-time.Second)}, err: "expired"},
		{name: "not yet valid", ca: ca, leaf: leaf{uris: []string{clientID}, notBefore: time.Now().Add(time.Hour), notAfter: time.Now().Add(2 * time.Hour)}, err: "not yet valid"},
		{name: "server-only certificate", ca: ca, leaf: leaf{uris: []string{clientID}, usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, err: "incompatible key usage"},
		{name: "two identities", ca: ca, leaf: leaf{uris: []string{clientID, "spiffe://cluster.local/ns/app/sa/admin"}}, err: "exactly one URI name"},
		{name: "no certificate", ca: ca, leaf: leaf{uris: []string{clientID}}, cfg: func(c *tls.Config) { c.Certificates = nil }, err: "client didn't provide a certificate"},
		{name: "no ALPN", ca: ca, leaf: leaf{uris: []string{clientID}}, cfg: func(c *tls.Config) { c.NextProtos = nil }, err: `client offers ALPN [], "h2" is required`},
		{name: "http/1.1 only", ca: ca, leaf: leaf{uris: []string{clientID}}, cfg: func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, err: `"h2" is required`},
		{name: "TLS 1.2", ca: ca, leaf: leaf{uris: []string{clientID}}, cfg: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, err: "unsupported version"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			chain, key := tc.ca.issue(t, tc.leaf)
			client := &tls.Config{
				Certificates: []tls.Certificate{must(tls.X509KeyPair(chain, key))}, NextProtos: []string{"h2"},
				InsecureSkipVerify: true, // the server's decision is under test
			}
			if tc.cfg != nil {
				tc.cfg(client)
			}
			srv, _, srvErr, cliErr := handshake(t, server.Config(), client)
			wantError(t, srvErr, tc.err)
			if (tc.err == "") != (cliErr == nil) {
				t.Fatalf("client saw %v", cliErr)
			}
			if tc.err != "" {
				return
			}
			cs := srv.ConnectionState()
			p := server.Peer(&cs)
			if p.URISAN != clientID || p.LocalURISAN != waypointID || p.ALPN != "h2" || p.TLSVersion != "TLSv1.3" || len(p.Fingerprint) != 64 {
				t.Errorf("peer is %+v", p)
			}
			if cs.CurveID != tls.X25519 {
				t.Errorf("key exchange is %v; the hybrid one costs ztunnel a round trip", cs.CurveID)
			}
		})
	}
}

func TestHBONEClientDecidesByCertificate(t *testing.T) {
	ca, other := newTestCA(t, "mesh", nil), newTestCA(t, "other", nil)
	s := newWorkload(t, ca, waypointID)
	client := must(s.ClientTLS(upstream(t, `{`+hboneCommon+`}`), ClientOptions{RequireALPN: "h2"}))
	if n := client.Notes(); len(n) != 0 {
		t.Errorf("istiod's own context yields notes: %v", n)
	}
	for _, tc := range []struct {
		name string
		ca   *testCA
		id   string
		alpn []string
		err  string
	}{
		{"good", ca, "spiffe://cluster.local/ns/app/sa/server", []string{"h2"}, ""},
		{"wrong trust domain", ca, "spiffe://other/ns/app/sa/server", []string{"h2"}, "subject alternative names"},
		{"unknown root", other, "spiffe://cluster.local/ns/app/sa/server", []string{"h2"}, "unknown authority"},
		{"server without ALPN", ca, "spiffe://cluster.local/ns/app/sa/server", nil, `"h2" is required`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			chain, key := tc.ca.issue(t, leaf{uris: []string{tc.id}})
			var sni string
			server := &tls.Config{
				Certificates: []tls.Certificate{must(tls.X509KeyPair(chain, key))}, NextProtos: tc.alpn, ClientAuth: tls.RequireAnyClientCert,
				GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) { sni = h.ServerName; return nil, nil },
			}
			srv, cli, _, cliErr := handshake(t, server, client.Config(ConnectionOptions{}))
			wantError(t, cliErr, tc.err)
			if sni != "" {
				t.Errorf("sent SNI %q; HBONE has none", sni)
			}
			if tc.err != "" {
				return
			}
			cs := cli.ConnectionState()
			if p := client.Peer(&cs); p.URISAN != tc.id || p.LocalURISAN != waypointID {
				t.Errorf("peer is %+v", p)
			}
			if got := identityOf(srv.ConnectionState().PeerCertificates[0]); got != waypointID {
				t.Errorf("server saw %s", got)
			}
		})
	}
}

func TestRotationKeepsOpenConnections(t *testing.T) {
	ca := newTestCA(t, "mesh", nil)
	s := newWorkload(t, ca, waypointID)
	server := hboneServer(t, s)
	peer := newWorkload(t, ca, clientID)
	client := must(peer.ClientTLS(upstream(t, `{`+hboneCommon+`}`), ClientOptions{})).Config(ConnectionOptions{})

	srv1, cli1, srvErr, cliErr := handshake(t, server.Config(), client)
	wantError(t, srvErr, "")
	wantError(t, cliErr, "")
	before := cli1.ConnectionState().PeerCertificates[0].SerialNumber

	// Both the certificate and the root change.
	ca2 := newTestCA(t, "mesh 2", nil)
	chain, key := ca2.issue(t, leaf{uris: []string{waypointID}})
	wantError(t, s.SetWorkload(chain, key), "")
	wantError(t, peer.SetExtraAnchors([]string{string(ca2.pem)}), "")

	_, cli2, srvErr, cliErr := handshake(t, server.Config(), client)
	wantError(t, srvErr, "")
	wantError(t, cliErr, "")
	if after := cli2.ConnectionState().PeerCertificates[0].SerialNumber; after.Cmp(before) == 0 {
		t.Error("a new connection got the old certificate")
	}
	if _, err := srv1.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	if _, err := cli1.Read(make([]byte, 1)); err != nil {
		t.Errorf("the connection from before the rotation broke: %v", err)
	}

	// The old root goes: its certificates are no longer believed.
	wantError(t, s.SetAnchors(ca2.pem), "")
	_, _, srvErr, _ = handshake(t, server.Config(), client)
	wantError(t, srvErr, "unknown authority")
}

func TestNotReadyFailsClosed(t *testing.T) {
	ca := newTestCA(t, "mesh", nil)
	peer := newWorkload(t, ca, clientID)
	client := must(peer.ClientTLS(upstream(t, `{`+hboneCommon+`}`), ClientOptions{})).Config(ConnectionOptions{})
	s := NewStore(StoreOptions{})
	server := hboneServer(t, s)
	if got := strings.Join(server.SecretNames(), " "); got != "default ROOTCA" {
		t.Errorf("names %s", got)
	}
	_, _, srvErr, _ := handshake(t, server.Config(), client)
	wantError(t, srvErr, `secret "default" is not ready: not received yet`)

	chain, key := ca.issue(t, leaf{uris: []string{waypointID}})
	wantError(t, s.SetWorkload(chain, key), "")
	_, _, srvErr, _ = handshake(t, server.Config(), client)
	wantError(t, srvErr, `secret "ROOTCA" is not ready`)
	wantError(t, server.Ready(), `secret "ROOTCA" is not ready`)

	wantError(t, s.SetAnchors(ca.pem), "")
	wantError(t, server.Ready(), "")
	_, _, srvErr, _ = handshake(t, server.Config(), client)
	wantError(t, srvErr, "")
}

// A client that holds no certificate yet must not get through to a server that does not ask for one.
func TestClientNotReady(t *testing.T) {
	ca := newTestCA(t, "mesh", nil)
	s := NewStore(StoreOptions{})
	wantError(t, s.SetAnchors(ca.pem), "")
	client := must(s.ClientTLS(upstream(t, `{`+hboneCommon+`}`), ClientOptions{}))
	chain, key := ca.issue(t, leaf{uris: []string{clientID}})
	_, _, _, cliErr := handshake(t, &tls.Config{Certificates: []tls.Certificate{must(tls.X509KeyPair(chain, key))}},
		client.Config(ConnectionOptions{}))
	wantError(t, cliErr, `secret "default" is not ready`)
}

func TestUpstreamNames(t *testing.T) {
	ca := newTestCA(t, "web", nil)
	s := NewStore(StoreOptions{Root: t.TempDir()})
	defer s.Close()
	writeFile(t, ca.pem, s.root, "ca.pem")
	chain, key := ca.issue(t, leaf{dns: []string{"api.example.com", "*.wild.example.com"}, ips: []net.IP{net.IPv4(127, 0, 0, 1)}})
	server := &tls.Config{Certificates: []tls.Certificate{must(tls.X509KeyPair(chain, key))}}
	context := func(matcher, rest string) string {
		return `{"common_tls_context": {"tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}, "combined_validation_context": {"default_validation_context": {"match_typed_subject_alt_names": [` +
			matcher + `]}, "validation_context_sds_secret_config": {"name": "file-root:ca.pem"}}}` + rest + `}`
	}
	for _, tc := range []struct {
		name, matcher, rest string
		o                   ConnectionOptions
		err                 string
	}{
		{name: "chain alone"},
		{name: "exact", matcher: `{"san_type": "DNS", "matcher": {"exact": "api.example.com"}}`},
		{name: "exact by wildcard", matcher: `{"san_type": "DNS", "matcher": {"exact": "a.wild.example.com"}}`},
		{name: "wildcard is one label", matcher: `{"san_type": "DNS", "matcher": {"exact": "a.b.wild.example.com"}}`, err: "none of"},
		{name: "any of", matcher: `{"san_type": "URI", "matcher": {"exact": "api.example.com"}}, {"san_type": "DNS", "matcher": {"suffix": ".example.com"}}`},
		{name: "kind matters", matcher: `{"san_type": "URI", "matcher": {"exact": "api.example.com"}}`, err: "none of"},
		{name: "IP", matcher: `{"san_type": "IP_ADDRESS", "matcher": {"exact": "127.0.0.1"}}`},
		{name: "contains, ignoring case", matcher: `{"san_type": "DNS", "matcher": {"contains": "EXAMPLE", "ignore_case": true}}`},
		{name: "regex is anchored", matcher: `{"san_type": "DNS", "matcher": {"safe_regex": {"regex": "api"}}}`, err: "none of"},
		{name: "regex", matcher: `{"san_type": "DNS", "matcher": {"safe_regex": {"regex": "api\\..*"}}}`},
		{name: "SNI is verified", rest: `, "sni": "api.example.com", "auto_sni_san_validation": true`},
		{name: "SNI is refused", rest: `, "sni": "web.example.com", "auto_sni_san_validation": true`, err: "none of"},
		{name: "host SNI", rest: `, "auto_host_sni": true, "auto_sni_san_validation": true`, o: ConnectionOptions{HostName: "no.example.com"}, err: "none of"},
		{name: "verify hosts", o: ConnectionOptions{VerifyHosts: []string{"api.example.com"}}},
		{name: "verify hosts and matchers both", matcher: `{"san_type": "DNS", "matcher": {"exact": "api.example.com"}}`, o: ConnectionOptions{VerifyHosts: []string{"x.example.com"}}, err: "none of"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := must(s.ClientTLS(upstream(t, context(tc.matcher, tc.rest)), ClientOptions{}))
			_, _, _, err := handshake(t, server, c.Config(tc.o))
			wantError(t, err, tc.err)
		})
	}
}

func TestRevocation(t *testing.T) {
	root := newTestCA(t, "root", nil)
	inter := newTestCA(t, "intermediate", root)
	s := newWorkload(t, root, waypointID)
	server := hboneServer(t, s)
	chain, key := inter.issue(t, leaf{uris: []string{clientID}})
	serial := must(parseCertificates(chain))[0].SerialNumber
	client := &tls.Config{Certificates: []tls.Certificate{must(tls.X509KeyPair(append(chain, inter.pem...), key))},
		NextProtos: []string{"h2"}, InsecureSkipVerify: true}
	lists := func(parts ...[]byte) []byte {
		var out []byte
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	for _, tc := range []struct {
		name string
		crl  []byte
		err  string
	}{
		{"none configured", nil, ""},
		{"nobody revoked", lists(root.crl(t), inter.crl(t)), ""},
		{"leaf revoked", lists(root.crl(t), inter.crl(t, serial)), "was revoked"},
		{"intermediate revoked", lists(root.crl(t, inter.cert.SerialNumber), inter.crl(t)), "was revoked"},
		{"issuer without a list", root.crl(t), "no revocation list of issuer"},
		{"somebody else revoked", lists(root.crl(t), inter.crl(t, big.NewInt(1<<40))), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantError(t, s.SetCRL(tc.crl), "")
			_, _, err, _ := handshake(t, server.Config(), client)
			wantError(t, err, tc.err)
		})
	}
	if err := s.SetCRL([]byte("rubbish")); err == nil {
		t.Error("a broken list was taken")
	}
}

func TestRefusedContexts(t *testing.T) {
	s := newWorkload(t, newTestCA(t, "mesh", nil), waypointID)
	for _, tc := range []struct{ name, text, err string }{
		{"no validation", `{"common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "default"}]}, "require_client_certificate": true}`, "require_client_certificate: needs a validation context"},
		{"no certificate", `{"common_tls_context": {}}`, "a server needs a certificate"},
		{"untrusted chains", `{"common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "default"}], "validation_context": {"trust_chain_verification": "ACCEPT_UNTRUSTED"}}}`,
			"common_tls_context.validation_context.trust_chain_verification: only VERIFY_TRUST_CHAIN"},
		{"names without CA", `{"common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "default"}], "validation_context": {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": "a"}}]}}}`,
			"needs trusted_ca"},
		{"bad regex in the default context", `{"common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "default"}], "combined_validation_context": {"default_validation_context": {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"safe_regex": {"regex": "("}}}]}, "validation_context_sds_secret_config": {"name": "ROOTCA"}}}}`,
			"combined_validation_context.default_validation_context.match_typed_subject_alt_names[0].matcher.safe_regex"},
		{"custom handshaker", `{"common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "default"}], "custom_handshaker": {"name": "x"}}}`, "custom_handshaker"},
		{"provider instance", `{"common_tls_context": {"tls_certificate_provider_instance": {"instance_name": "x"}}}`, "tls_certificate_provider_instance: this field is not known here"},
		{"versions", `{"common_tls_context": {"tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_2"}, "tls_certificate_sds_secret_configs": [{"name": "default"}]}}`, "above the maximum"},
		{"private key provider", `{"common_tls_context": {"tls_certificates": [{"private_key_provider": {"provider_name": "cryptomb"}}]}}`, `provider "cryptomb" is not available`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := s.ServerTLS(downstream(t, tc.text), ServerOptions{})
			wantError(t, err, tc.err)
		})
	}
	_, err := s.ServerTLS(downstream(t, `{`+hboneCommon+`}`), hbone)
	wantError(t, err, "require_client_certificate: must be true")
}

func TestNotes(t *testing.T) {
	s := NewStore(StoreOptions{})
	c := must(s.ClientTLS(upstream(t, `{"common_tls_context": {"key_log": {"path": "/tmp/k"}}, "allow_renegotiation": true}`), ClientOptions{}))
	var got []string
	for _, n := range c.Notes() {
		got = append(got, n.Path)
	}
	want := "allow_renegotiation common_tls_context.key_log common_tls_context.validation_context"
	if strings.Join(got, " ") != want {
		t.Errorf("notes %v, want %s", got, want)
	}
	// Unverified, as Envoy does, and said so.
	chain, key := newTestCA(t, "any", nil).issue(t, leaf{dns: []string{"any"}})
	_, _, _, err := handshake(t, &tls.Config{Certificates: []tls.Certificate{must(tls.X509KeyPair(chain, key))}}, c.Config(ConnectionOptions{}))
	wantError(t, err, "")
}

func TestUnknownFieldsRefuse(t *testing.T) {
	s := newWorkload(t, newTestCA(t, "mesh", nil), waypointID)
	m := downstream(t, `{`+hboneCommon+`, "require_client_certificate": true}`)
	// Field 1000 of a later API version.
	m.CommonTlsContext.ProtoReflect().SetUnknown([]byte{0xc0, 0x3e, 0x01})
	_, err := s.ServerTLS(m, hbone)
	wantError(t, err, "common_tls_context.(unknown fields)")
}

func TestCompliancePolicy(t *testing.T) {
	ca := newTestCA(t, "mesh", nil)
	s := newWorkload(t, ca, waypointID)
	text := strings.Replace(hboneCommon, `"tls_params": {`, `"tls_params": {"compliance_policies": ["FIPS_202205"], `, 1)
	c := must(s.ServerTLS(downstream(t, `{`+text+`, "require_client_certificate": true}`), hbone))
	chain, key := ca.issue(t, leaf{uris: []string{clientID}})
	srv, _, err, _ := handshake(t, c.Config(), &tls.Config{NextProtos: []string{"h2"}, InsecureSkipVerify: true,
		Certificates: []tls.Certificate{must(tls.X509KeyPair(chain, key))}})
	wantError(t, err, "")
	if id := srv.ConnectionState().CurveID; id != tls.CurveP256 {
		t.Errorf("curve %v", id)
	}
	if err := c.params.checkNegotiated(&tls.ConnectionState{CipherSuite: tls.TLS_CHACHA20_POLY1305_SHA256}); err == nil {
		t.Error("ChaCha20 passes the FIPS policy")
	}
	_, err = s.ServerTLS(downstream(t, strings.Replace(`{`+text+`}`, "FIPS_202205", "CNSA2_202603", 1)), ServerOptions{})
	wantError(t, err, "CNSA2_202603 is not supported")
}

// Every field of the TLS messages has a fate or is refused; a typo in the table would go unseen.
func TestFatesNameRealFields(t *testing.T) {
	known := map[string]bool{}
	for _, m := range []protoreflect.ProtoMessage{
		&tlsv3.Secret{}, &tlsv3.DownstreamTlsContext{}, &tlsv3.UpstreamTlsContext{}, &tlsv3.CommonTlsContext{},
		&tlsv3.CommonTlsContext_CombinedCertificateValidationContext{}, &tlsv3.SdsSecretConfig{}, &tlsv3.TlsParameters{},
		&tlsv3.TlsCertificate{}, &tlsv3.PrivateKeyProvider{}, &tlsv3.CertificateValidationContext{}, &tlsv3.SubjectAltNameMatcher{},
	} {
		m := m.ProtoReflect().Descriptor()
		for i := range m.Fields().Len() {
			known[string(m.Name())+"."+string(m.Fields().Get(i).Name())] = true
		}
	}
	for name := range fates {
		if !known[name] {
			t.Errorf("%s is no field", name)
		}
	}
}
