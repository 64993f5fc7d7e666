package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/program"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	inputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
)

// matching compiles a filter_chain_matcher into a Dispatch: authority, then address, then port, then protocol. Any of the four
// may be missing; what nests in another order, or uses another input, cannot be expressed and refuses the part that it decides.
//
// The rules of xds.type.matcher.v3 hold: a nested matcher that does not match counts as no match of its parent, so that the
// parent's on_no_match is next; of several prefixes the longest is tried first and, if it does not match, the next, unless that
// one is exclusive.
type matching struct {
	chains map[string]*program.Chain
	d      *decoder
	out    *program.Dispatch
	// refused are the leaves that could not be expressed, or lead nowhere.
	refused []string
}

// input is what a matcher tree looks at.
type input int

const (
	otherInput input = iota
	byAuthority
	byAddress
	byPort
	byProtocol
)

func (m *matching) input(t *xdscorev3.TypedExtensionConfig) (input, error) {
	e, err := m.d.any(t.GetTypedConfig())
	if err != nil {
		return otherInput, err
	}
	switch in := e.Message.(type) {
	case *inputsv3.DestinationIPInput:
		return byAddress, nil
	case *inputsv3.DestinationPortInput:
		return byPort, nil
	case *inputsv3.ApplicationProtocolInput:
		return byProtocol, nil
	case *inputsv3.FilterStateInput:
		if in.GetKey() == filter.AuthorityKey && in.GetField() == "" {
			return byAuthority, nil
		}
		return otherInput, fmt.Errorf("filter state %q cannot pick a filter chain here", in.GetKey())
	}
	return otherInput, fmt.Errorf("input %s cannot pick a filter chain here", e.Type)
}

func (m *matching) compile(top *matcherv3.Matcher) error {
	return m.authorities(&matcherv3.Matcher_OnMatch{OnMatch: &matcherv3.Matcher_OnMatch_Matcher{Matcher: top}})
}

// tree returns the matcher_tree below on, and what it looks at. nil: on is an action.
func (m *matching) tree(on *matcherv3.Matcher_OnMatch) (*matcherv3.Matcher, input, error) {
	if on.GetKeepMatching() {
		return nil, otherInput, errors.New("keep_matching is not supported")
	}
	next := on.GetMatcher()
	if next == nil {
		return nil, otherInput, nil
	}
	if next.GetMatcherTree() == nil {
		return nil, otherInput, errors.New("only matcher_tree is supported, not matcher_list")
	}
	in, err := m.input(next.GetMatcherTree().GetInput())
	return next, in, err
}

// exact returns the map of a tree, the only kind that is known for what is no address.
func exact(t *matcherv3.Matcher) (map[string]*matcherv3.Matcher_OnMatch, error) {
	mm := t.GetMatcherTree().GetExactMatchMap()
	if mm == nil {
		return nil, errors.New("only exact_match_map is supported here")
	}
	return mm.GetMap(), nil
}

func (m *matching) authorities(on *matcherv3.Matcher_OnMatch) error {
	t, in, err := m.tree(on)
	if err != nil {
		return err
	}
	if t == nil || in != byAuthority {
		return m.addresses(on)
	}
	values, err := exact(t)
	if err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	m.out.Authorities = make(map[string]*program.PortMatch, len(values))
	for authority, next := range values {
		m.out.Authorities[authority] = m.port(next)
	}
	if t.GetOnNoMatch() == nil {
		return nil
	}
	return m.addresses(t.GetOnNoMatch())
}

// addressRange is one prefix of an IPMatcher.
type addressRange struct {
	prefix    netip.Prefix
	index     int
	exclusive bool
	to        *program.PortMatch
}

func (m *matching) addresses(on *matcherv3.Matcher_OnMatch) error {
	t, in, err := m.tree(on)
	if err != nil {
		return err
	}
	if t == nil || in != byAddress {
		m.out.Else = mergePorts(m.port(on), m.out.Else)
		return nil
	}
	if no := t.GetOnNoMatch(); no != nil {
		m.out.Else = mergePorts(m.port(no), m.out.Else)
	}
	custom := t.GetMatcherTree().GetCustomMatch()
	if custom == nil {
		return errors.New("address: only custom_match with an IPMatcher is supported")
	}
	ips, err := decodeAs(m.d, custom.GetTypedConfig(), &matcherv3.IPMatcher{})
	if err != nil {
		return fmt.Errorf("address: custom_match: %w", err)
	}
	var all []addressRange
	for i, r := range ips.GetRangeMatchers() {
		to := m.port(r.GetOnMatch())
		for _, c := range r.GetRanges() {
			p, err := prefix(c)
			if err != nil {
				return fmt.Errorf("address: range_matchers[%d]: %w", i, err)
			}
			all = append(all, addressRange{p, i, r.GetExclusive(), to})
		}
	}
	m.out.Ranges = program.NewRanges()
	fallThrough(all, m.out.Else, m.out.Ranges)
	return nil
}

func prefix(c *xdscorev3.CidrRange) (netip.Prefix, error) {
	a, err := netip.ParseAddr(c.GetAddressPrefix())
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("address_prefix %q is not an IP address", c.GetAddressPrefix())
	}
	if a.Is4In6() {
		a = a.Unmap()
	}
	p, err := a.Prefix(int(c.GetPrefixLen().GetValue()))
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("prefix_len %d is too long for %s", c.GetPrefixLen().GetValue(), a)
	}
	return p, nil
}

// fallThrough enters each prefix with what it leads to, completed by what the shorter prefixes around it, and finally no prefix
// at all, lead to.
func fallThrough(all []addressRange, last *program.PortMatch, into *program.Ranges) {
	byPrefix := map[netip.Prefix][]addressRange{}
	var lengths []int
	for _, r := range all {
		byPrefix[r.prefix] = append(byPrefix[r.prefix], r)
		if !slices.Contains(lengths, r.prefix.Bits()) {
			lengths = append(lengths, r.prefix.Bits())
		}
	}
	slices.Sort(lengths)
	slices.Reverse(lengths)
	for p, own := range byPrefix {
		var to *program.PortMatch
		first := true
		for _, bits := range lengths {
			if bits > p.Bits() {
				continue
			}
			around, err := p.Addr().Prefix(bits)
			if err != nil {
				continue // an IPv6 length and an IPv4 address
			}
			for _, r := range byPrefix[around] {
				if first || !r.exclusive {
					to = mergePorts(to, r.to)
				}
				first = false
			}
		}
		_ = own
		into.Add(p, mergePorts(to, last))
	}
}

// port compiles what is below an address. What cannot be expressed becomes a chain that refuses.
func (m *matching) port(on *matcherv3.Matcher_OnMatch) *program.PortMatch {
	t, in, err := m.tree(on)
	if err != nil {
		return &program.PortMatch{Any: m.refuseMatch(err)}
	}
	if t == nil || in != byPort {
		return &program.PortMatch{Any: m.protocol(on)}
	}
	values, err := exact(t)
	if err != nil {
		return &program.PortMatch{Any: m.refuseMatch(fmt.Errorf("port: %w", err))}
	}
	out := &program.PortMatch{Ports: make(map[uint16]*program.ProtocolMatch, len(values))}
	for text, next := range values {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || strconv.FormatUint(n, 10) != text {
			continue // the input renders ports in plain decimal: such a key never matches
		}
		out.Ports[uint16(n)] = m.protocol(next)
	}
	if no := t.GetOnNoMatch(); no != nil {
		out = mergePorts(out, m.port(no))
	}
	return out
}

// The keys of ApplicationProtocolInput: it renders the list of protocols quoted.
const (
	keyHTTP10 = "'http/1.0'"
	keyHTTP11 = "'http/1.1'"
	keyH2C    = "'h2c'"
)

func (m *matching) protocol(on *matcherv3.Matcher_OnMatch) *program.ProtocolMatch {
	t, in, err := m.tree(on)
	switch {
	case err != nil:
		return m.refuseMatch(err)
	case t == nil:
		return &program.ProtocolMatch{Chain: m.chain(on)}
	case in != byProtocol:
		return m.refuseMatch(errors.New("matchers must nest in the order authority, address, port, protocol"))
	}
	values, err := exact(t)
	if err != nil {
		return m.refuseMatch(fmt.Errorf("protocol: %w", err))
	}
	out := &program.ProtocolMatch{}
	for key, next := range values {
		to := m.protocol(next)
		if to.Chain == nil {
			return m.refuseMatch(fmt.Errorf("protocol %s: what follows must be a chain", key))
		}
		switch key {
		case keyHTTP10:
			out.HTTP10 = to.Chain
		case keyHTTP11:
			out.HTTP11 = to.Chain
		case keyH2C:
			out.H2C = to.Chain
		default: // the inspector never reports anything else
		}
	}
	if no := t.GetOnNoMatch(); no != nil {
		out = mergeProtocols(out, m.protocol(no))
	}
	return out
}

// chain resolves an action.
func (m *matching) chain(on *matcherv3.Matcher_OnMatch) *program.Chain {
	a := on.GetAction()
	if a == nil {
		return m.refuse("", errors.New("neither a matcher nor an action"))
	}
	name, err := decodeAs(m.d, a.GetTypedConfig(), &wrapperspb.StringValue{})
	if err != nil {
		return m.refuse(a.GetName(), fmt.Errorf("action %q: %w", a.GetName(), err))
	}
	if c := m.chains[name.GetValue()]; c != nil {
		return c
	}
	return m.refuse(name.GetValue(), fmt.Errorf("names filter chain %q, which does not exist", name.GetValue()))
}

func refuseChain(name string, err error) *program.Chain {
	return &program.Chain{Name: name, Refused: err}
}

// refuse makes a leaf that refuses.
func (m *matching) refuse(name string, err error) *program.Chain {
	err = fmt.Errorf("filter_chain_matcher: %w", err)
	m.refused = append(m.refused, err.Error())
	return refuseChain(name, err)
}

func (m *matching) refuseMatch(err error) *program.ProtocolMatch {
	return &program.ProtocolMatch{Chain: m.refuse("", err)}
}

// mergePorts answers as a does and, where a has no answer, as b does.
func mergePorts(a, b *program.PortMatch) *program.PortMatch {
	if a == nil || b == nil || a == b {
		if a == nil {
			return b
		}
		return a
	}
	out := &program.PortMatch{Any: mergeProtocols(a.Any, b.Any)}
	if len(a.Ports)+len(b.Ports) > 0 {
		out.Ports = map[uint16]*program.ProtocolMatch{}
	}
	for p, m := range a.Ports {
		next := b.Any
		if x, ok := b.Ports[p]; ok {
			next = mergeProtocols(x, b.Any)
		}
		out.Ports[p] = mergeProtocols(mergeProtocols(m, a.Any), next)
	}
	for p, m := range b.Ports {
		if _, ok := a.Ports[p]; !ok {
			out.Ports[p] = mergeProtocols(a.Any, mergeProtocols(m, b.Any))
		}
	}
	return out
}

func mergeProtocols(a, b *program.ProtocolMatch) *program.ProtocolMatch {
	switch {
	case a == nil:
		return b
	case b == nil || a.Chain != nil:
		return a
	}
	or := func(x *program.Chain, s program.Sniffed) *program.Chain {
		if x != nil {
			return x
		}
		if a.Else != nil {
			return a.Else
		}
		return b.ForProtocol(s)
	}
	return &program.ProtocolMatch{
		HTTP10: or(a.HTTP10, program.HTTP10), HTTP11: or(a.HTTP11, program.HTTP11), H2C: or(a.H2C, program.H2C),
		Else: or(nil, program.Unknown),
	}
}
