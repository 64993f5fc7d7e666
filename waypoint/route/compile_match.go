package route

import (
	"errors"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func lowerName(name string) string { return strings.ToLower(name) }

// match compiles a RouteMatch. A condition that is not supported is left out, so that the route, which is refused for it, stands
// before all requests that it could be meant for.
func (c *compiler) match(out *Match, m *routev3.RouteMatch, path string) (refused, err error) {
	*out = Match{
		IgnoreCase: m.GetCaseSensitive() != nil && !m.GetCaseSensitive().GetValue(),
		GRPC:       m.GetGrpc() != nil,
		Presented:  optional(m.GetTlsContext().GetPresented()),
		Validated:  optional(m.GetTlsContext().GetValidated()),
	}
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		out.Kind, out.Path = PathPrefix, p.Prefix
	case *routev3.RouteMatch_Path:
		out.Kind, out.Path = PathExact, p.Path
	case *routev3.RouteMatch_PathSeparatedPrefix:
		out.Kind, out.Path = PathSeparatedPrefix, p.PathSeparatedPrefix
	case *routev3.RouteMatch_ConnectMatcher_:
		out.Kind = PathConnect
	case *routev3.RouteMatch_SafeRegex:
		re, err := compileFull(p.SafeRegex.GetRegex())
		if err != nil {
			return nil, at("safe_regex", err)
		}
		out.Kind, out.Path, out.regex = PathRegex, p.SafeRegex.GetRegex(), re
	default: // refused by the audit: whatever the path is
		out.Kind = PathAny
	}
	if m.GetRuntimeFraction() != nil {
		out.Fraction = c.fraction(m.GetRuntimeFraction(), path+".runtime_fraction")
	}
	// each runs compile for every element; one that is not supported is left out.
	each := func(field string, n int, compile func(i int) error) {
		for i := range n {
			r, fatal := c.spare(path+"."+index(field, i), compile(i))
			refused = errors.Join(refused, r)
			err = errors.Join(err, at(index(field, i), fatal))
		}
	}
	each("headers", len(m.GetHeaders()), func(i int) error {
		h, err := headerMatch(m.GetHeaders()[i])
		if err == nil {
			out.Headers = append(out.Headers, h)
		}
		return err
	})
	each("query_parameters", len(m.GetQueryParameters()), func(i int) error {
		q := m.GetQueryParameters()[i]
		qm := QueryMatch{Name: q.GetName()}
		if s := q.GetStringMatch(); s != nil {
			t, err := stringMatch(s)
			if err != nil {
				return at("string_match", err)
			}
			qm.value = &t
		}
		out.Query = append(out.Query, qm)
		return nil
	})
	each("cookies", len(m.GetCookies()), func(i int) error {
		k := m.GetCookies()[i]
		t, err := stringMatch(k.GetStringMatch())
		if err == nil {
			out.Cookies = append(out.Cookies, CookieMatch{Name: k.GetName(), Invert: k.GetInvertMatch(), value: t})
		}
		return at("string_match", err)
	})
	each("dynamic_metadata", len(m.GetDynamicMetadata()), func(i int) error {
		d := m.GetDynamicMetadata()[i]
		mm := MetadataMatch{Namespace: d.GetFilter(), Invert: d.GetInvert()}
		for _, segment := range d.GetPath() {
			mm.Path = append(mm.Path, segment.GetKey())
		}
		var err error
		if mm.value, err = valueMatch(d.GetValue()); err == nil {
			out.Metadata = append(out.Metadata, mm)
		}
		return at("value", err)
	})
	return refused, err
}

func optional(b *wrapperspb.BoolValue) *bool {
	if b == nil {
		return nil
	}
	v := b.GetValue()
	return &v
}

func headerMatch(m *routev3.HeaderMatcher) (HeaderMatch, error) {
	h := HeaderMatch{Name: lowerName(m.GetName()), Invert: m.GetInvertMatch(), TreatMissingAsEmpty: m.GetTreatMissingHeaderAsEmpty()}
	h.test = testValue
	switch s := m.GetHeaderMatchSpecifier().(type) {
	case nil: // a name alone asks for presence
		h.test, h.present = testPresence, true
	case *routev3.HeaderMatcher_PresentMatch:
		h.test, h.present = testPresence, s.PresentMatch
	case *routev3.HeaderMatcher_RangeMatch:
		h.test, h.from, h.to = testRange, s.RangeMatch.GetStart(), s.RangeMatch.GetEnd()
	case *routev3.HeaderMatcher_ExactMatch:
		h.value = text{kind: exactly, value: s.ExactMatch}
		if s.ExactMatch == "" { // in this deprecated field, unlike in string_match, "" matches any value
			h.value.kind = prefixed
		}
	case *routev3.HeaderMatcher_PrefixMatch:
		h.value = text{kind: prefixed, value: s.PrefixMatch}
	case *routev3.HeaderMatcher_SuffixMatch:
		h.value = text{kind: suffixed, value: s.SuffixMatch}
	case *routev3.HeaderMatcher_ContainsMatch:
		h.value = text{kind: containing, value: s.ContainsMatch}
	case *routev3.HeaderMatcher_SafeRegexMatch:
		re, err := compileFull(s.SafeRegexMatch.GetRegex())
		if err != nil {
			return h, at("safe_regex_match", err)
		}
		h.value = text{kind: byRegex, re: re}
	case *routev3.HeaderMatcher_StringMatch:
		t, err := stringMatch(s.StringMatch)
		if err != nil {
			return h, at("string_match", err)
		}
		h.value = t
	default:
		return h, at("header_match_specifier", errUnsupported)
	}
	return h, nil
}

// stringMatch compiles a StringMatcher.
func stringMatch(m *matcherv3.StringMatcher) (text, error) {
	t := text{fold: m.GetIgnoreCase()}
	switch s := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		t.kind, t.value = exactly, s.Exact
	case *matcherv3.StringMatcher_Prefix:
		t.kind, t.value = prefixed, s.Prefix
	case *matcherv3.StringMatcher_Suffix:
		t.kind, t.value = suffixed, s.Suffix
	case *matcherv3.StringMatcher_Contains:
		t.kind, t.value = containing, s.Contains
	case *matcherv3.StringMatcher_SafeRegex:
		re, err := compileFull(s.SafeRegex.GetRegex())
		if err != nil {
			return t, at("safe_regex", err)
		}
		t.kind, t.re = byRegex, re
	default:
		return t, at("custom", errUnsupported)
	}
	return t, nil
}

func valueMatch(m *matcherv3.ValueMatcher) (valueTest, error) {
	switch s := m.GetMatchPattern().(type) {
	case *matcherv3.ValueMatcher_NullMatch_:
		return func(v *structpb.Value) bool {
			_, ok := v.GetKind().(*structpb.Value_NullValue)
			return ok
		}, nil
	case *matcherv3.ValueMatcher_PresentMatch:
		return func(v *structpb.Value) bool { return (v.GetKind() != nil) == s.PresentMatch }, nil
	case *matcherv3.ValueMatcher_BoolMatch:
		return func(v *structpb.Value) bool {
			b, ok := v.GetKind().(*structpb.Value_BoolValue)
			return ok && b.BoolValue == s.BoolMatch
		}, nil
	case *matcherv3.ValueMatcher_StringMatch:
		t, err := stringMatch(s.StringMatch)
		return func(v *structpb.Value) bool {
			str, ok := v.GetKind().(*structpb.Value_StringValue)
			return ok && t.match(str.StringValue)
		}, at("string_match", err)
	case *matcherv3.ValueMatcher_DoubleMatch:
		from, to := s.DoubleMatch.GetRange().GetStart(), s.DoubleMatch.GetRange().GetEnd()
		exact, isExact := s.DoubleMatch.GetMatchPattern().(*matcherv3.DoubleMatcher_Exact)
		return func(v *structpb.Value) bool {
			n, ok := v.GetKind().(*structpb.Value_NumberValue)
			if !ok || isExact {
				return ok && n.NumberValue == exact.Exact
			}
			return from <= n.NumberValue && n.NumberValue < to
		}, nil
	case *matcherv3.ValueMatcher_ListMatch:
		one, err := valueMatch(s.ListMatch.GetOneOf())
		return func(v *structpb.Value) bool {
			for _, e := range v.GetListValue().GetValues() {
				if one(e) {
					return true
				}
			}
			return false
		}, at("list_match.one_of", err)
	case *matcherv3.ValueMatcher_OrMatch:
		var any []valueTest
		for i, one := range s.OrMatch.GetValueMatchers() {
			t, err := valueMatch(one)
			if err != nil {
				return nil, at(index("or_match.value_matchers", i), err)
			}
			any = append(any, t)
		}
		return func(v *structpb.Value) bool {
			for _, t := range any {
				if t(v) {
					return true
				}
			}
			return false
		}, nil
	}
	return nil, at("match_pattern", errUnsupported)
}
