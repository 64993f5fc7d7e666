package rbac

import (
	"errors"
	"fmt"
	"net/netip"

	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	envoycorev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/metadata/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/authz"
)

// predicate is a condition of a matcher tree. In Envoy it has three results: yes, no, and that there is no data to tell by,
// which ends the whole search.
type predicate struct {
	holds   authz.Clause
	unknown authz.Clause // when there is no data; nil: never
}

// predicate translates a condition. As in Envoy, an "and" ends at the first part that does not hold or has no data; an "or"
// has no data only if no part holds.
func (t *tree) predicate(m *matcherv3.Matcher_MatcherList_Predicate) (predicate, error) {
	switch kind := m.GetMatchType().(type) {
	case *matcherv3.Matcher_MatcherList_Predicate_SinglePredicate_:
		p, err := t.single(kind.SinglePredicate)
		return p, at("single_predicate", err)
	case *matcherv3.Matcher_MatcherList_Predicate_AndMatcher:
		parts, err := t.predicates(kind.AndMatcher)
		return allOf(parts), at("and_matcher", err)
	case *matcherv3.Matcher_MatcherList_Predicate_OrMatcher:
		parts, err := t.predicates(kind.OrMatcher)
		return anyOf(parts), at("or_matcher", err)
	case *matcherv3.Matcher_MatcherList_Predicate_NotMatcher:
		p, err := t.predicate(kind.NotMatcher)
		return not(p), at("not_matcher", err)
	}
	return predicate{}, errors.New("match_type: not set, or of a kind that this build does not know")
}

func (t *tree) predicates(m *matcherv3.Matcher_MatcherList_Predicate_PredicateList) ([]predicate, error) {
	var parts []predicate
	for i, one := range m.GetPredicate() {
		p, err := t.predicate(one)
		if err != nil {
			return nil, at(fmt.Sprintf("predicate[%d]", i), err)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func allOf(parts []predicate) predicate {
	var holds authz.And
	var unknown authz.Or
	for _, p := range parts {
		if p.unknown != nil {
			unknown = append(unknown, authz.And(with(holds, p.unknown)))
		}
		holds = append(holds, p.holds)
	}
	return orNever(holds, unknown)
}

func anyOf(parts []predicate) predicate {
	var holds, unknown authz.Or
	for _, p := range parts {
		holds = append(holds, p.holds)
		if p.unknown != nil {
			unknown = append(unknown, p.unknown)
		}
	}
	if unknown == nil {
		return predicate{holds: holds}
	}
	return predicate{holds, authz.And{&authz.Not{Clause: holds}, unknown}}
}

func not(p predicate) predicate {
	holds := authz.Clause(&authz.Not{Clause: p.holds})
	if p.unknown != nil {
		holds = authz.And{holds, &authz.Not{Clause: p.unknown}}
	}
	return predicate{holds, p.unknown}
}

func orNever(holds authz.Clause, unknown authz.Or) predicate {
	if len(unknown) == 0 {
		return predicate{holds: holds}
	}
	return predicate{holds, unknown}
}

// single translates a test of one input.
func (t *tree) single(m *matcherv3.Matcher_MatcherList_Predicate_SinglePredicate) (predicate, error) {
	in, err := t.input(m.GetInput())
	if err != nil {
		return predicate{}, at("input", err)
	}
	p := predicate{unknown: in.unknown}
	switch test := m.GetMatcher().(type) {
	case *matcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch:
		if in.text == nil { // Envoy takes it, and then it never matches
			return predicate{}, at("value_match", fmt.Errorf("%w on an input that is not text; use custom_match", errNotSupported))
		}
		if exact, ok := test.ValueMatch.GetMatchPattern().(*matcherv3.StringMatcher_Exact); ok && !test.ValueMatch.GetIgnoreCase() {
			p.holds = in.is(exact.Exact)
			return p, nil
		}
		pattern, err := treeString(test.ValueMatch)
		if err != nil {
			return predicate{}, at("value_match", err)
		}
		p.holds = in.text(pattern)
		return p, nil
	case *matcherv3.Matcher_MatcherList_Predicate_SinglePredicate_CustomMatch:
		p.holds, err = inputMatcher(test.CustomMatch.GetTypedConfig(), in)
		return p, at("custom_match", err)
	}
	return predicate{}, errors.New("matcher: not set, or of a kind that this build does not know")
}

// inputMatcher translates the input matchers of Envoy that always say the same of the same request.
func inputMatcher(config *anypb.Any, in *input) (authz.Clause, error) {
	var addresses ipv3.Ip
	var value metadatav3.Metadata
	switch {
	case config.MessageIs(&addresses) && in.text != nil: // its stat_prefix names a counter that nobody reads
		if err := unpack(config, &addresses); err != nil {
			return nil, err
		}
		ranges, err := cidrs(addresses.GetCidrRanges())
		return in.within(ranges...), at("cidr_ranges", err)
	case config.MessageIs(&value) && in.metadata != nil:
		if err := unpack(config, &value); err != nil {
			return nil, err
		}
		return in.metadata(&value)
	}
	return nil, unknownExtension(config)
}

func cidrs(list []*envoycorev3.CidrRange) ([]netip.Prefix, error) {
	var ranges []netip.Prefix
	for _, r := range list {
		prefix, err := cidr(r.GetAddressPrefix(), r.GetPrefixLen())
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, prefix)
	}
	return ranges, nil
}
