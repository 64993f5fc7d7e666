package identity

import (
	"crypto/fips140"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// parameters is a compiled TlsParameters.
type parameters struct {
	min, max uint16
	suites   []uint16 // TLS 1.2 only; crypto/tls fixes those of 1.3
	curves   []tls.CurveID
	only     []uint16 // when set, any other negotiated suite ends the connection
}

// defaultCurves leaves out X25519MLKEM768, which Go prefers by default: ztunnel supports it but sends no
// key share for it, so choosing it costs each new connection a HelloRetryRequest round trip. A compliance
// policy or ecdh_curves brings it back.
var defaultCurves = []tls.CurveID{tls.X25519, tls.CurveP256}

var curveNames = map[string]tls.CurveID{
	"X25519": tls.X25519, "P-256": tls.CurveP256, "P-384": tls.CurveP384, "P-521": tls.CurveP521,
	"X25519MLKEM768": tls.X25519MLKEM768,
}

// suiteNames maps OpenSSL's names to the suites that Envoy and Go share. Suites without forward secrecy
// (AES128-SHA and the like) are left out: Go disables them too.
var suiteNames = map[string]uint16{
	"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-RSA-AES128-GCM-SHA256":   tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-RSA-AES256-GCM-SHA384":   tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	"ECDHE-RSA-CHACHA20-POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	"ECDHE-ECDSA-AES128-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	"ECDHE-RSA-AES128-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	"ECDHE-ECDSA-AES256-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	"ECDHE-RSA-AES256-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
}

var aesGCM = []uint16{
	tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
}

const paramsPath = "common_tls_context.tls_params"

// compileParams compiles tls_params. Unset versions mean TLS 1.2 at least, and at most 1.3 for servers and
// 1.2 for clients, as in Envoy.
func compileParams(p *tlsv3.TlsParameters, server bool) (parameters, []Note, error) {
	out := parameters{min: tls.VersionTLS12, max: tls.VersionTLS12, curves: defaultCurves}
	if server {
		out.max = tls.VersionTLS13
	}
	versions := map[tlsv3.TlsParameters_TlsProtocol]uint16{
		tlsv3.TlsParameters_TLSv1_0: tls.VersionTLS10, tlsv3.TlsParameters_TLSv1_1: tls.VersionTLS11,
		tlsv3.TlsParameters_TLSv1_2: tls.VersionTLS12, tlsv3.TlsParameters_TLSv1_3: tls.VersionTLS13,
	}
	if v, ok := versions[p.GetTlsMinimumProtocolVersion()]; ok {
		out.min = v
		if v > out.max && p.GetTlsMaximumProtocolVersion() == tlsv3.TlsParameters_TLS_AUTO {
			out.max = v
		}
	}
	if v, ok := versions[p.GetTlsMaximumProtocolVersion()]; ok {
		out.max = v
	}
	var notes []Note
	if out.min < tls.VersionTLS12 {
		notes = append(notes, Note{paramsPath + ".tls_minimum_protocol_version", "TLS before 1.2 is insecure; allowed as configured"})
	}
	if out.min > out.max {
		return out, nil, fieldErrorf(paramsPath, "minimum version %s is above the maximum %s", tls.VersionName(out.min), tls.VersionName(out.max))
	}
	n, err := out.setCurves(p.GetEcdhCurves())
	notes = append(notes, n...)
	if err != nil {
		return out, nil, err
	}
	n, err = out.setSuites(p.GetCipherSuites())
	notes = append(notes, n...)
	if err != nil {
		return out, nil, err
	}
	for _, policy := range p.GetCompliancePolicies() {
		n, err := out.comply(policy)
		notes = append(notes, n...)
		if err != nil {
			return out, nil, err
		}
	}
	return out, notes, nil
}

func (o *parameters) setCurves(names []string) ([]Note, error) {
	if len(names) == 0 {
		return nil, nil
	}
	var notes []Note
	o.curves = nil
	for _, name := range names {
		if id, ok := curveNames[name]; ok {
			o.curves = append(o.curves, id)
		} else {
			notes = append(notes, Note{paramsPath + ".ecdh_curves", fmt.Sprintf("curve %q is not available and not offered", name)})
		}
	}
	if len(o.curves) == 0 {
		return nil, fieldErrorf(paramsPath+".ecdh_curves", "none of %q is available", names)
	}
	return notes, nil
}

// setSuites reads cipher_suites. A "[A|B]" group means equal preference, which is what Go makes of the
// whole list.
func (o *parameters) setSuites(list []string) ([]Note, error) {
	if len(list) == 0 {
		return nil, nil
	}
	var notes []Note
	for _, item := range list {
		for name := range strings.SplitSeq(strings.Trim(item, "[]"), "|") {
			if id, ok := suiteNames[name]; ok {
				o.suites = append(o.suites, id)
			} else {
				notes = append(notes, Note{paramsPath + ".cipher_suites", fmt.Sprintf("%q is not available and not offered", name)})
			}
		}
	}
	if len(o.suites) == 0 && o.min < tls.VersionTLS13 {
		return nil, fieldErrorf(paramsPath+".cipher_suites", "none of %q is available", list)
	}
	return notes, nil
}

// comply narrows the parameters to FIPS_202205 (SP 800-52 Rev. 2 as Envoy and BoringSSL read it): TLS 1.2
// and 1.3, AES-GCM with ECDHE, P-256 and P-384. crypto/tls cannot leave ChaCha20 out of TLS 1.3, so a
// connection that ends up with it is closed after the handshake.
func (o *parameters) comply(policy tlsv3.TlsParameters_CompliancePolicy) ([]Note, error) {
	const path = paramsPath + ".compliance_policies"
	if policy != tlsv3.TlsParameters_FIPS_202205 {
		return nil, fieldErrorf(path, "%v is not supported; FIPS_202205 is", policy)
	}
	o.min = max(o.min, tls.VersionTLS12)
	o.only = aesGCM
	if len(o.suites) == 0 {
		o.suites = aesGCM[2:]
	}
	o.suites = slices.DeleteFunc(slices.Clone(o.suites), func(id uint16) bool { return !slices.Contains(aesGCM, id) })
	o.curves = []tls.CurveID{tls.CurveP256, tls.CurveP384}
	if o.min > o.max {
		return nil, fieldErrorf(path, "demands TLS 1.2, tls_params allow at most %s", tls.VersionName(o.max))
	}
	if !fips140.Enabled() {
		return []Note{{path, "algorithms are restricted, but the FIPS 140-3 module is not active; run with GODEBUG=fips140=on"}}, nil
	}
	return nil, nil
}

// config returns the settings that servers and clients share.
func (o *parameters) config(alpn []string) *tls.Config {
	return &tls.Config{
		MinVersion:       o.min,
		MaxVersion:       o.max,
		CipherSuites:     o.suites,
		CurvePreferences: o.curves,
		NextProtos:       slices.Clone(alpn),
		// Sessions are not resumed: each connection shows its certificate, so that trust that has ended
		// is not carried on, and ztunnel does not ask for it.
		SessionTicketsDisabled: true,
		// Small records first help a browser's first paint and only cost system calls in a mesh.
		DynamicRecordSizingDisabled: true,
	}
}

// checkNegotiated refuses what crypto/tls could not be told to avoid.
func (o *parameters) checkNegotiated(cs *tls.ConnectionState) error {
	if len(o.only) > 0 && !slices.Contains(o.only, cs.CipherSuite) {
		return fmt.Errorf("cipher suite %s is not allowed by the compliance policy", tls.CipherSuiteName(cs.CipherSuite))
	}
	return nil
}
