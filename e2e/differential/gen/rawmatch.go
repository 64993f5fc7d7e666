package gen

import (
	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// kindOf says what the values of a header stand for.
func kindOf(header string) kind {
	switch header {
	case ":method":
		return method
	case ":authority", "host":
		return host
	case ":path":
		return path
	}
	return headerValue
}

// header makes a matcher with the fields of today or the deprecated ones.
func (w raw) header() *routev3.HeaderMatcher {
	name := pick(w.World, headerNames)
	k := kindOf(name)
	m := &routev3.HeaderMatcher{Name: name, InvertMatch: w.oneIn(4), TreatMissingHeaderAsEmpty: w.oneIn(4)}
	switch w.IntN(14) {
	case 0:
	case 1, 2:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: w.oneIn(2)}
	case 3:
		start := int64(w.IntN(12) - 2)
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_RangeMatch{RangeMatch: &typev3.Int64Range{Start: start, End: start + int64(w.IntN(10))}}
	case 4:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_ExactMatch{ExactMatch: w.word(k)}
	case 5:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_PrefixMatch{PrefixMatch: w.nonEmpty(k)}
	case 6:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_SuffixMatch{SuffixMatch: w.nonEmpty(k)}
	case 7:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_ContainsMatch{ContainsMatch: w.nonEmpty(k)}
	case 8:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_SafeRegexMatch{SafeRegexMatch: w.regex(k)}
	default:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: w.text(k)}
	}
	return m
}

func (w raw) filterState() *matcherv3.FilterStateMatcher {
	if w.oneIn(4) && !w.network {
		ranges := some(w.World, 1, 2, func() *xdscorev3.CidrRange {
			r := w.cidr()
			return &xdscorev3.CidrRange{AddressPrefix: r.GetAddressPrefix(), PrefixLen: r.GetPrefixLen()}
		})
		return &matcherv3.FilterStateMatcher{Key: pair.AddressKey, Matcher: &matcherv3.FilterStateMatcher_AddressMatch{
			AddressMatch: &matcherv3.AddressMatcher{Ranges: ranges, InvertMatch: w.oneIn(3)},
		}}
	}
	key := authz.PeerPrincipal
	if w.oneIn(10) {
		key = "differential.absent"
	}
	return &matcherv3.FilterStateMatcher{Key: key, Matcher: &matcherv3.FilterStateMatcher_StringMatch{StringMatch: w.text(principal)}}
}

func (w raw) sourcedMetadata() *rbacv3.SourcedMetadata {
	m := &rbacv3.SourcedMetadata{MetadataMatcher: w.metadata()}
	if !w.oneIn(3) {
		m.MetadataSource = rbacv3.MetadataSource_ROUTE
		m.MetadataMatcher.Filter = pair.RouteNamespace
		m.MetadataMatcher.Path = keys(pick(w.World, []string{"tier", "level", "on", "tags", "absent"}))
	}
	return m
}

var claimNames = []string{"iss", "sub", "aud", "azp", "groups", "nested", "level", "ok", "nothing"}

func keys(names ...string) []*matcherv3.MetadataMatcher_PathSegment {
	var all []*matcherv3.MetadataMatcher_PathSegment
	for _, name := range names {
		all = append(all, &matcherv3.MetadataMatcher_PathSegment{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: name}})
	}
	return all
}

func (w raw) metadata() *matcherv3.MetadataMatcher {
	m := &matcherv3.MetadataMatcher{Filter: pair.JWTNamespace, Invert: w.oneIn(4), Value: w.value(2)}
	switch w.IntN(8) {
	case 0:
		m.Filter, m.Path = pair.OtherNamespace, keys(pair.OtherKey)
	case 1:
		m.Path = keys(pair.JWTPayload, "nested", pick(w.World, claimNames))
	case 2:
		m.Filter, m.Path = "differential.absent", keys("a")
	default:
		m.Path = keys(pair.JWTPayload, pick(w.World, claimNames))
	}
	return m
}

func (w raw) value(depth int) *matcherv3.ValueMatcher {
	m := &matcherv3.ValueMatcher{}
	switch n := w.IntN(10); {
	case depth > 0 && n == 0:
		m.MatchPattern = &matcherv3.ValueMatcher_ListMatch{ListMatch: &matcherv3.ListMatcher{MatchPattern: &matcherv3.ListMatcher_OneOf{OneOf: w.value(depth - 1)}}}
	case depth > 0 && n == 1:
		m.MatchPattern = &matcherv3.ValueMatcher_OrMatch{OrMatch: &matcherv3.OrMatcher{
			ValueMatchers: some(w.World, 2, 3, func() *matcherv3.ValueMatcher { return w.value(depth - 1) }),
		}}
	case n == 2:
		m.MatchPattern = &matcherv3.ValueMatcher_NullMatch_{NullMatch: &matcherv3.ValueMatcher_NullMatch{}}
	case n == 3:
		m.MatchPattern = &matcherv3.ValueMatcher_BoolMatch{BoolMatch: w.oneIn(2)}
	case n == 4:
		m.MatchPattern = &matcherv3.ValueMatcher_PresentMatch{PresentMatch: !w.oneIn(3)}
	case n == 5:
		d := &matcherv3.DoubleMatcher{MatchPattern: &matcherv3.DoubleMatcher_Exact{Exact: pick(w.World, numbers)}}
		if w.oneIn(2) {
			start := pick(w.World, numbers)
			d.MatchPattern = &matcherv3.DoubleMatcher_Range{Range: &typev3.DoubleRange{Start: start, End: start + pick(w.World, []float64{0, 0.5, 1, 100})}}
		}
		m.MatchPattern = &matcherv3.ValueMatcher_DoubleMatch{DoubleMatch: d}
	default:
		m.MatchPattern = &matcherv3.ValueMatcher_StringMatch{StringMatch: w.text(claim)}
	}
	return m
}

var numbers = []float64{0, 1, 1.5, 2, 3, -1, 1e300, 9007199254740993}

// cidr makes a range around one of the world's addresses.
func (w World) cidr() *corev3.CidrRange {
	addr := pick(w, addresses)
	m := &corev3.CidrRange{AddressPrefix: addr.String()}
	if !w.oneIn(10) { // absent is 0
		m.PrefixLen = wrapperspb.UInt32(uint32(pick(w, []int{0, 1, 7, 8, 9, 15, 16, 24, 31, 32, 33, 48, 64, 96, 104, 112, 127, 128})))
	}
	return m
}
