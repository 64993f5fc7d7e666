package rbac

import (
	"errors"
	"fmt"
	"net/netip"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gowaypoint/gowaypoint/authz"
)

func stringMatch(m *matcherv3.StringMatcher) (authz.Pattern, error) {
	var pattern authz.Pattern
	switch match := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		pattern = authz.Exact(match.Exact)
	case *matcherv3.StringMatcher_Prefix:
		pattern = authz.Prefix(match.Prefix)
	case *matcherv3.StringMatcher_Suffix:
		pattern = authz.Suffix(match.Suffix)
	case *matcherv3.StringMatcher_Contains:
		pattern = authz.Contains(match.Contains)
	case *matcherv3.StringMatcher_SafeRegex:
		if m.GetIgnoreCase() {
			return pattern, at("ignore_case", errors.New("has no effect on safe_regex; Envoy refuses it too. Write (?i) in the expression"))
		}
		var err error
		if pattern, err = regex(match.SafeRegex); err != nil {
			return pattern, at("safe_regex", err)
		}
	case *matcherv3.StringMatcher_Custom:
		return pattern, notSupported("custom", "extension "+match.Custom.GetTypedConfig().GetTypeUrl())
	default:
		return pattern, errors.New("match_pattern: not set, or of a kind that this build does not know")
	}
	if m.GetIgnoreCase() {
		pattern = pattern.IgnoreCase()
	}
	return pattern, nil
}

// treeString translates the StringMatcher of matcher trees, which is another message with the same fields.
func treeString(m *xdsmatcherv3.StringMatcher) (authz.Pattern, error) {
	same := &matcherv3.StringMatcher{IgnoreCase: m.GetIgnoreCase()}
	switch match := m.GetMatchPattern().(type) {
	case *xdsmatcherv3.StringMatcher_Exact:
		same.MatchPattern = &matcherv3.StringMatcher_Exact{Exact: match.Exact}
	case *xdsmatcherv3.StringMatcher_Prefix:
		same.MatchPattern = &matcherv3.StringMatcher_Prefix{Prefix: match.Prefix}
	case *xdsmatcherv3.StringMatcher_Suffix:
		same.MatchPattern = &matcherv3.StringMatcher_Suffix{Suffix: match.Suffix}
	case *xdsmatcherv3.StringMatcher_Contains:
		same.MatchPattern = &matcherv3.StringMatcher_Contains{Contains: match.Contains}
	case *xdsmatcherv3.StringMatcher_SafeRegex:
		same.MatchPattern = &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: match.SafeRegex.GetRegex()}}
	case *xdsmatcherv3.StringMatcher_Custom:
		return authz.Pattern{}, notSupported("custom", "extension "+match.Custom.GetTypedConfig().GetTypeUrl())
	}
	return stringMatch(same)
}

// regex compiles an expression. The engine_type of the message selects RE2, the only engine that there is.
func regex(m *matcherv3.RegexMatcher) (authz.Pattern, error) {
	return authz.Regex(m.GetRegex())
}

func header(m *routev3.HeaderMatcher) (authz.Clause, error) {
	h := &authz.Header{
		Name:           m.GetName(),
		Invert:         m.GetInvertMatch(),
		MissingIsEmpty: m.GetTreatMissingHeaderAsEmpty(),
	}
	switch match := m.GetHeaderMatchSpecifier().(type) {
	case nil: // a name alone asks for presence
		h.Test, h.Present = authz.HeaderPresent, true
	case *routev3.HeaderMatcher_PresentMatch:
		h.Test, h.Present = authz.HeaderPresent, match.PresentMatch
	case *routev3.HeaderMatcher_RangeMatch:
		h.Test, h.From, h.To = authz.HeaderInRange, match.RangeMatch.GetStart(), match.RangeMatch.GetEnd()
	case *routev3.HeaderMatcher_ExactMatch:
		h.Pattern = authz.Exact(match.ExactMatch)
		if match.ExactMatch == "" { // in this deprecated field, unlike in string_match, "" matches any value
			h.Pattern = authz.Prefix("")
		}
	case *routev3.HeaderMatcher_PrefixMatch:
		h.Pattern = authz.Prefix(match.PrefixMatch)
	case *routev3.HeaderMatcher_SuffixMatch:
		h.Pattern = authz.Suffix(match.SuffixMatch)
	case *routev3.HeaderMatcher_ContainsMatch:
		h.Pattern = authz.Contains(match.ContainsMatch)
	case *routev3.HeaderMatcher_SafeRegexMatch:
		pattern, err := regex(match.SafeRegexMatch)
		if err != nil {
			return nil, at("safe_regex_match", err)
		}
		h.Pattern = pattern
	case *routev3.HeaderMatcher_StringMatch:
		pattern, err := stringMatch(match.StringMatch)
		if err != nil {
			return nil, at("string_match", err)
		}
		h.Pattern = pattern
	default:
		return nil, errors.New("header_match_specifier: of a kind that this build does not know")
	}
	return h, nil
}

func urlPath(m *matcherv3.PathMatcher) (authz.Clause, error) {
	pattern, err := stringMatch(m.GetPath())
	return &authz.Path{Pattern: pattern}, at("path", err)
}

func ip(of authz.Address, r *corev3.CidrRange) (authz.Clause, error) {
	prefix, err := cidr(r.GetAddressPrefix(), r.GetPrefixLen())
	return &authz.IP{Of: of, Range: prefix}, err
}

// cidr reads a range as Envoy does: a prefix length that is not there is 0, which holds every address of the family,
// and one longer than the address is cut to it.
func cidr(address string, length *wrapperspb.UInt32Value) (netip.Prefix, error) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("address_prefix: %w", err)
	}
	bits := min(int(min(length.GetValue(), 128)), addr.BitLen())
	prefix := netip.PrefixFrom(addr, bits)
	if addr.Zone() != "" || !prefix.IsValid() {
		return netip.Prefix{}, fmt.Errorf("address_prefix %q: not an address without zone", address)
	}
	return prefix.Masked(), nil
}

func sourcedMetadata(m *rbacv3.SourcedMetadata) (authz.Clause, error) {
	from := authz.DynamicMetadata
	switch m.GetMetadataSource() {
	case rbacv3.MetadataSource_DYNAMIC:
	case rbacv3.MetadataSource_ROUTE:
		from = authz.RouteMetadata
	default:
		return nil, at("metadata_source", fmt.Errorf("unknown value %d", m.GetMetadataSource()))
	}
	c, err := metadata(m.GetMetadataMatcher(), from)
	return c, at("metadata_matcher", err)
}

func metadata(m *matcherv3.MetadataMatcher, from authz.MetadataSource) (authz.Clause, error) {
	c := &authz.MetadataIs{From: from, Filter: m.GetFilter(), Invert: m.GetInvert()}
	for i, segment := range m.GetPath() {
		key, ok := segment.GetSegment().(*matcherv3.MetadataMatcher_PathSegment_Key)
		if !ok {
			return nil, at(fmt.Sprintf("path[%d]", i), errors.New("not a key"))
		}
		c.Path = append(c.Path, key.Key)
	}
	var err error
	c.Value, err = value(m.GetValue())
	return c, at("value", err)
}

func value(m *matcherv3.ValueMatcher) (authz.ValueTest, error) {
	switch match := m.GetMatchPattern().(type) {
	case *matcherv3.ValueMatcher_NullMatch_:
		return authz.ValueNull{}, nil
	case *matcherv3.ValueMatcher_BoolMatch:
		return authz.ValueBool(match.BoolMatch), nil
	case *matcherv3.ValueMatcher_PresentMatch:
		return authz.ValuePresent(match.PresentMatch), nil
	case *matcherv3.ValueMatcher_StringMatch:
		pattern, err := stringMatch(match.StringMatch)
		return &authz.ValueString{Pattern: pattern}, at("string_match", err)
	case *matcherv3.ValueMatcher_DoubleMatch:
		switch number := match.DoubleMatch.GetMatchPattern().(type) {
		case *matcherv3.DoubleMatcher_Exact:
			return authz.ValueNumberExact(number.Exact), nil
		case *matcherv3.DoubleMatcher_Range:
			return &authz.ValueNumber{From: number.Range.GetStart(), To: number.Range.GetEnd()}, nil
		}
		return nil, at("double_match", errors.New("match_pattern: not set, or of a kind that this build does not know"))
	case *matcherv3.ValueMatcher_ListMatch:
		element, err := value(match.ListMatch.GetOneOf())
		return &authz.ValueListHas{Element: element}, at("list_match.one_of", err)
	case *matcherv3.ValueMatcher_OrMatch:
		var tests authz.ValueAnyOf
		for i, one := range match.OrMatch.GetValueMatchers() {
			test, err := value(one)
			if err != nil {
				return nil, at(fmt.Sprintf("or_match.value_matchers[%d]", i), err)
			}
			tests = append(tests, test)
		}
		return tests, nil
	}
	return nil, errors.New("match_pattern: not set, or of a kind that this build does not know")
}
