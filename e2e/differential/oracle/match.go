package oracle

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	uritemplatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gowaypoint/gowaypoint/authz"
)

func text(m *matcherv3.StringMatcher, v string) bool {
	lower := func(s string) string {
		if m.GetIgnoreCase() {
			return asciiLower(s)
		}
		return s
	}
	switch match := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return lower(v) == lower(match.Exact)
	case *matcherv3.StringMatcher_Prefix:
		return strings.HasPrefix(lower(v), lower(match.Prefix))
	case *matcherv3.StringMatcher_Suffix:
		return strings.HasSuffix(lower(v), lower(match.Suffix))
	case *matcherv3.StringMatcher_Contains:
		return strings.Contains(lower(v), lower(match.Contains))
	case *matcherv3.StringMatcher_SafeRegex:
		return regex(match.SafeRegex, v)
	}
	panic("the oracle does not know this string matcher")
}

func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}

var regexes sync.Map // of string to *regexp.Regexp

// regex matches from end to end. Envoy's RE2 reads Latin-1: each byte is a character. In Go that is written as characters up to
// U+00FF; or, since RE2 folds only ASCII there, under (?i) with the bytes above it as characters of private use, which have no case.
func regex(m *matcherv3.RegexMatcher, v string) bool {
	high := rune(0)
	expr, fold := strings.CutPrefix(m.GetRegex(), "(?i)")
	if fold {
		high = privateUse
		expr = "(?i)" + privateEscapes.Replace(expr)
	}
	re, ok := regexes.Load(m.GetRegex())
	if !ok {
		re, _ = regexes.LoadOrStore(m.GetRegex(), regexp.MustCompile(`\A(?:`+latin1(expr, high)+`)\z`))
	}
	return re.(*regexp.Regexp).MatchString(latin1(v, high))
}

const privateUse = 0xe000

// privateEscapes moves what package gen writes of characters above ASCII in another way than literally.
var privateEscapes = strings.NewReplacer(`\x{e9}`, `\x{e0e9}`, `\pL`, `[a-zA-Z\x{e0aa}\x{e0b5}\x{e0ba}\x{e0c0}-\x{e0d6}\x{e0d8}-\x{e0f6}\x{e0f8}-\x{e0ff}]`)

// latin1 makes a character of each byte, those above ASCII moved up by high.
func latin1(s string, high rune) string {
	all := make([]rune, len(s))
	for i := range len(s) {
		if all[i] = rune(s[i]); s[i] >= 0x80 {
			all[i] += high
		}
	}
	return string(all)
}

// cidr is a range in either of the two packages that have one.
type cidr interface {
	GetAddressPrefix() string
	GetPrefixLen() *wrapperspb.UInt32Value
}

func (w *world) within(addr netip.Addr, m cidr, certain bool) bool {
	if !addr.IsValid() {
		return w.unknown(certain)
	}
	prefix := netip.MustParseAddr(m.GetAddressPrefix())
	bits := min(int(m.GetPrefixLen().GetValue()), prefix.BitLen())
	rng := netip.PrefixFrom(prefix, bits).Masked()
	return rng.Contains(addr) || w.with&MappedAddress != 0 && !certain && rng.Contains(addr.Unmap())
}

// unknown is the result of a test of an address that is not known.
func (w *world) unknown(certain bool) bool { return w.with&UnknownAddress != 0 && !certain }

func (w *world) port(from, to int32, certain bool) bool {
	if !w.Destination.IsValid() {
		return w.unknown(certain)
	}
	port := int32(w.Destination.Port())
	return from <= port && port < to
}

func (w *world) authenticated(m *rbacv3.Principal_Authenticated) bool {
	if w.Peer == nil {
		// No TLS, or TLS without a certificate: then Envoy sees a peer that has no names.
		return w.Scheme == "https" && w.with&NoCertificate == 0 &&
			(m.GetPrincipalName() == nil || text(m.GetPrincipalName(), ""))
	}
	if m.GetPrincipalName() == nil {
		return true
	}
	names := slices.Concat(w.Peer.URISANs, w.Peer.DNSSANs, []string{w.Peer.Subject})
	return slices.ContainsFunc(names, func(name string) bool { return text(m.GetPrincipalName(), name) })
}

func (w *world) filterState(m *matcherv3.FilterStateMatcher, certain bool) bool {
	v, ok := w.FilterState.FilterState(m.GetKey())
	if !ok {
		return false
	}
	if m.GetStringMatch() != nil {
		return text(m.GetStringMatch(), v)
	}
	addr, err := netip.ParseAddr(v)
	if err != nil { // an object, but not an address
		return w.unknown(certain)
	}
	invert := m.GetAddressMatch().GetInvertMatch()
	in := slices.ContainsFunc(m.GetAddressMatch().GetRanges(), func(r *xdscorev3.CidrRange) bool { return w.within(addr, r, certain != invert) })
	return in != invert
}

func (w *world) metadata(m *matcherv3.MetadataMatcher, from authz.MetadataSource) bool {
	if from == authz.RouteMetadata && !w.HTTP {
		return false // no route: not even inverted
	}
	var v *structpb.Value
	if w.Metadata != nil {
		fields := w.Metadata.Metadata(from, m.GetFilter()).GetFields()
		for _, segment := range m.GetPath() {
			v = fields[segment.GetKey()]
			fields = v.GetStructValue().GetFields()
		}
	}
	return valueMatch(m.GetValue(), v) != m.GetInvert()
}

func valueMatch(m *matcherv3.ValueMatcher, v *structpb.Value) bool {
	switch match := m.GetMatchPattern().(type) {
	case *matcherv3.ValueMatcher_NullMatch_:
		_, ok := v.GetKind().(*structpb.Value_NullValue)
		return ok
	case *matcherv3.ValueMatcher_BoolMatch:
		b, ok := v.GetKind().(*structpb.Value_BoolValue)
		return ok && b.BoolValue == match.BoolMatch
	case *matcherv3.ValueMatcher_StringMatch:
		s, ok := v.GetKind().(*structpb.Value_StringValue)
		return ok && text(match.StringMatch, s.StringValue)
	case *matcherv3.ValueMatcher_DoubleMatch:
		n, ok := v.GetKind().(*structpb.Value_NumberValue)
		if !ok {
			return false
		}
		if r := match.DoubleMatch.GetRange(); r != nil {
			return r.GetStart() <= n.NumberValue && n.NumberValue < r.GetEnd()
		}
		return n.NumberValue == match.DoubleMatch.GetExact()
	case *matcherv3.ValueMatcher_PresentMatch:
		return match.PresentMatch && v.GetKind() != nil
	case *matcherv3.ValueMatcher_ListMatch:
		return slices.ContainsFunc(v.GetListValue().GetValues(), func(one *structpb.Value) bool {
			return valueMatch(match.ListMatch.GetOneOf(), one)
		})
	case *matcherv3.ValueMatcher_OrMatch:
		return slices.ContainsFunc(match.OrMatch.GetValueMatchers(), func(one *matcherv3.ValueMatcher) bool {
			return valueMatch(one, v)
		})
	}
	panic("the oracle does not know this value matcher")
}

// template reads a path template as a regular expression: a way of its own to the meaning that authz.Template has.
func (w *world) template(m *corev3.TypedExtensionConfig) bool {
	var config uritemplatev3.UriTemplateMatchConfig
	if err := m.GetTypedConfig().UnmarshalTo(&config); err != nil {
		panic(err)
	}
	path, ok := w.pathOnly()
	return ok && templateRegex(config.GetPathTemplate()).MatchString(path)
}

var variable = regexp.MustCompile(`\{[a-zA-Z][a-zA-Z0-9_]*(=([^}]*))?\}`)

// templateRegex is the expression for a template.
func templateRegex(text string) *regexp.Regexp {
	if re, ok := regexes.Load("template " + text); ok {
		return re.(*regexp.Regexp)
	}
	plain := variable.ReplaceAllStringFunc(text, func(v string) string {
		if form := variable.FindStringSubmatch(v)[2]; form != "" {
			return form
		}
		return "*"
	})
	const char = `[a-zA-Z0-9\-._~%!$&'()*+,;:@=]`
	quoted := regexp.QuoteMeta(plain)
	quoted = strings.ReplaceAll(quoted, `\*\*`, `(?:`+char+`|/)*`)
	quoted = strings.ReplaceAll(quoted, `\*`, char+`+`)
	re := regexp.MustCompile(`\A` + quoted + `\z`)
	regexes.Store("template "+text, re)
	return re
}
