package rbac

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/authz"
)

// custom appends the rules of the two custom matchers that Envoy has for HTTP: ranges of addresses, and domains.
func (t *tree) custom(config *anypb.Any, in *input, path []authz.Clause, depth int) error {
	var ranges matcherv3.IPMatcher
	var domains matcherv3.ServerNameMatcher
	switch {
	case config.MessageIs(&ranges):
		if err := unpack(config, &ranges); err != nil {
			return err
		}
		return t.ranges(&ranges, in, path, depth)
	case config.MessageIs(&domains):
		if err := unpack(config, &domains); err != nil {
			return err
		}
		return t.domains(&domains, in, path, depth)
	}
	return unknownExtension(config)
}

// addressRange is one range of an IPMatcher, and the branch that it leads to.
type addressRange struct {
	prefix netip.Prefix
	length uint32 // as written, which may be longer than the address has bits
	branch int
}

// ranges appends the rules of an IPMatcher: the longest range first, of equally long ones the first. One that is exclusive
// counts only if it is the first that the address lies in.
func (t *tree) ranges(m *matcherv3.IPMatcher, in *input, path []authz.Clause, depth int) error {
	var all []addressRange
	for i, rm := range m.GetRangeMatchers() {
		for j, r := range rm.GetRanges() {
			prefix, err := cidr(r.GetAddressPrefix(), r.GetPrefixLen())
			if err != nil {
				return at(fmt.Sprintf("range_matchers[%d].ranges[%d]", i, j), err)
			}
			all = append(all, addressRange{prefix, r.GetPrefixLen().GetValue(), i})
		}
	}
	slices.SortStableFunc(all, func(a, b addressRange) int { return int(b.length) - int(a.length) })
	for k, r := range all {
		guard := with(path, in.within(r.prefix))
		if m.GetRangeMatchers()[r.branch].GetExclusive() {
			if before := overlapping(all[:k], r.prefix); before != nil {
				guard = append(guard, &authz.Not{Clause: in.within(before...)})
			}
		}
		if err := t.onMatch(m.GetRangeMatchers()[r.branch].GetOnMatch(), guard, depth); err != nil {
			return at(fmt.Sprintf("range_matchers[%d].on_match", r.branch), err)
		}
	}
	return nil
}

func overlapping(all []addressRange, with netip.Prefix) []netip.Prefix {
	var some []netip.Prefix
	for _, r := range all {
		if r.prefix.Overlaps(with) {
			some = append(some, r.prefix)
		}
	}
	return some
}

// domains appends the rules of a ServerNameMatcher: exact names, then the longest *.suffix, then "*", which is any name but the
// empty one. Letters are compared with their case, as Envoy 1.40 does.
func (t *tree) domains(m *matcherv3.ServerNameMatcher, in *input, path []authz.Clause, depth int) error {
	branch := map[string]int{}
	var names []string
	for i, dm := range m.GetDomainMatchers() {
		for _, domain := range dm.GetDomains() {
			if err := domainForm(domain); err != nil {
				return at(fmt.Sprintf("domain_matchers[%d].domains", i), err)
			}
			if _, ok := branch[domain]; ok {
				return at(fmt.Sprintf("domain_matchers[%d].domains", i), fmt.Errorf("%q is there twice", domain))
			}
			branch[domain] = i
			names = append(names, domain)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		if wildA, wildB := strings.HasPrefix(a, "*"), strings.HasPrefix(b, "*"); wildA != wildB {
			if wildA {
				return 1
			}
			return -1
		}
		return len(b) - len(a)
	})
	for _, name := range names {
		guard := with(path, in.is(name))
		if suffix, ok := strings.CutPrefix(name, "*"); ok {
			guard = with(path, in.text(authz.Suffix(suffix)))
			if suffix == "" {
				guard = append(guard, &authz.Not{Clause: in.is("")})
			}
		}
		if err := t.onMatch(m.GetDomainMatchers()[branch[name]].GetOnMatch(), guard, depth); err != nil {
			return at(fmt.Sprintf("domain_matchers[%d].on_match", branch[name]), err)
		}
	}
	return nil
}

func domainForm(domain string) error {
	name, _ := strings.CutPrefix(domain, "*.")
	switch {
	case domain == "":
		return errors.New("an empty domain")
	case domain != "*" && (name == "" || strings.Contains(name, "*")):
		return fmt.Errorf("%q: a wildcard is * or *.domain", domain)
	}
	return nil
}
