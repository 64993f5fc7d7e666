package identity

import (
	"crypto/x509"
	"fmt"
	"net"
	"regexp"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// maxRegexSize bounds a SAN pattern. Istio's patterns are trust-domain prefixes of a few dozen bytes;
// RE2 runs in linear time, so the bound only limits the compiled program's memory.
const maxRegexSize = 8 << 10

// sanMatcher decides whether one certificate carries a name of the right kind that matches.
type sanMatcher struct {
	kinds []tlsv3.SubjectAltNameMatcher_SanType
	exact string // set for exact matchers, which DNS names compare by wildcard rules
	match func(string) bool
	text  string // for error messages
}

func (m sanMatcher) matches(c *x509.Certificate) bool {
	for _, kind := range m.kinds {
		switch kind {
		case tlsv3.SubjectAltNameMatcher_URI:
			for _, u := range uriSANs(c) {
				if m.match(u) {
					return true
				}
			}
		case tlsv3.SubjectAltNameMatcher_DNS:
			for _, n := range c.DNSNames {
				if m.match(n) || m.exact != "" && dnsNameMatch(m.exact, n) {
					return true
				}
			}
		case tlsv3.SubjectAltNameMatcher_EMAIL:
			for _, n := range c.EmailAddresses {
				if m.match(n) {
					return true
				}
			}
		case tlsv3.SubjectAltNameMatcher_IP_ADDRESS:
			for _, ip := range c.IPAddresses {
				if m.match(ip.String()) {
					return true
				}
			}
		}
	}
	return false
}

// newSANMatcher compiles one entry of match_typed_subject_alt_names.
func newSANMatcher(path string, m *tlsv3.SubjectAltNameMatcher) (sanMatcher, error) {
	switch m.GetSanType() {
	case tlsv3.SubjectAltNameMatcher_URI, tlsv3.SubjectAltNameMatcher_DNS,
		tlsv3.SubjectAltNameMatcher_EMAIL, tlsv3.SubjectAltNameMatcher_IP_ADDRESS:
	default:
		return sanMatcher{}, fieldErrorf(path+".san_type", "%v cannot be matched; use URI, DNS, EMAIL or IP_ADDRESS", m.GetSanType())
	}
	return compileSAN(path+".matcher", m.GetMatcher(), m.GetSanType())
}

// anySAN lists the kinds that the deprecated, untyped match_subject_alt_names looks at in Envoy.
var anySAN = []tlsv3.SubjectAltNameMatcher_SanType{
	tlsv3.SubjectAltNameMatcher_DNS, tlsv3.SubjectAltNameMatcher_URI,
	tlsv3.SubjectAltNameMatcher_EMAIL, tlsv3.SubjectAltNameMatcher_IP_ADDRESS,
}

func compileSAN(path string, m *matcherv3.StringMatcher, kinds ...tlsv3.SubjectAltNameMatcher_SanType) (sanMatcher, error) {
	out := sanMatcher{kinds: kinds}
	fold := func(s string) string { return s }
	if m.GetIgnoreCase() {
		fold = strings.ToLower
	}
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		want := fold(p.Exact)
		out.exact = p.Exact
		out.match = func(s string) bool { return fold(s) == want }
		out.text = fmt.Sprintf("exact %q", p.Exact)
	case *matcherv3.StringMatcher_Prefix:
		want := fold(p.Prefix)
		out.match = func(s string) bool { return strings.HasPrefix(fold(s), want) }
		out.text = fmt.Sprintf("prefix %q", p.Prefix)
	case *matcherv3.StringMatcher_Suffix:
		want := fold(p.Suffix)
		out.match = func(s string) bool { return strings.HasSuffix(fold(s), want) }
		out.text = fmt.Sprintf("suffix %q", p.Suffix)
	case *matcherv3.StringMatcher_Contains:
		want := fold(p.Contains)
		out.match = func(s string) bool { return strings.Contains(fold(s), want) }
		out.text = fmt.Sprintf("contains %q", p.Contains)
	case *matcherv3.StringMatcher_SafeRegex:
		pattern := p.SafeRegex.GetRegex()
		if len(pattern) > maxRegexSize {
			return out, fieldErrorf(path+".safe_regex", "has %d bytes, more than %d", len(pattern), maxRegexSize)
		}
		// Envoy demands a match of the whole name.
		re, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
		if err != nil {
			return out, fieldErrorf(path+".safe_regex", "does not compile: %v", err)
		}
		out.match = re.MatchString
		out.text = fmt.Sprintf("regex %q", pattern)
	default:
		return out, fieldErrorf(path, "has no pattern that is supported (exact, prefix, suffix, contains, safe_regex)")
	}
	return out, nil
}

// dnsNameMatch compares a wanted host name with a DNS name of a certificate, which may begin with a
// whole-label wildcard (RFC 9525 section 6.3). Envoy also takes wildcards inside a label
// ("w*.example.com"), which the RFC has withdrawn; those do not match here.
func dnsNameMatch(want, have string) bool {
	want, have = strings.ToLower(want), strings.ToLower(have)
	if want == have {
		return true
	}
	rest, wildcard := strings.CutPrefix(have, "*.")
	if !wildcard || rest == "" {
		return false
	}
	label, tail, ok := strings.Cut(want, ".")
	return ok && label != "" && tail == rest
}

// hostMatches reports whether a certificate names host, a DNS name or an IP address. It serves
// auto_sni_san_validation and auto_san_validation.
func hostMatches(c *x509.Certificate, host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		for _, have := range c.IPAddresses {
			if have.Equal(ip) {
				return true
			}
		}
		return false
	}
	for _, n := range c.DNSNames {
		if dnsNameMatch(host, n) {
			return true
		}
	}
	return false
}
