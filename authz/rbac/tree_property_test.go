package rbac

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	envoycorev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	sslv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gowaypoint/gowaypoint/authz"
)

// Flattening a tree keeps what it says, for random trees and requests. The trees are walked here as Envoy walks them, on
// requests of which each attribute has one plain value.
//
//   - Of such a request the rules say what the walk says, with the same policy.
//   - A request with headers on several lines, or from an address that is not known, is let pass only if the walk lets pass
//     every plain request that it may be read as, whatever negations and on_no_match stand between.
func TestFlatteningKeepsTheTree(t *testing.T) {
	allowed, denied, uncertainAllowed, stricter := 0, 0, 0, 0
	for seed := range uint64(300) {
		w := treeWorld{rand.New(rand.NewPCG(seed, 7))}
		m := w.matcher(3)
		f, err := translateTree(m, http)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		set, err := f.compile()
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for range 20 {
			u := w.uncertain()
			d := set.Decide(u.request())
			all := true
			for _, p := range u.readings() {
				name, action, result := p.walk(m)
				pass := result == yes && action != rbacv3.RBAC_DENY
				all = all && pass
				if p.source == nil { // only the walk has plain requests without an address
					continue
				}
				if result != yes {
					name = ""
				}
				plain := set.Decide(p.request())
				if plain.Allowed != pass || plain.Policy != name {
					t.Fatalf("seed %d: %+v: the tree says %v by %q, the rules %+v\n%s", seed, p, pass, name, plain, prototext.Format(m))
				}
				if pass {
					allowed++
				} else {
					denied++
				}
			}
			if d.Allowed && !all {
				t.Fatalf("seed %d: %+v: let pass by %q, which some reading does not allow\n%s", seed, u, d.Policy, prototext.Format(m))
			}
			if len(u.readings()) > 1 {
				if d.Allowed {
					uncertainAllowed++
				} else if all {
					stricter++
				}
			}
		}
	}
	t.Logf("plain requests: %d allowed, %d denied; of several readings: %d allowed, %d denied that every reading allows", allowed, denied, uncertainAllowed, stricter)
	if allowed < 1000 || denied < 1000 || uncertainAllowed < 500 {
		t.Error("the trees and requests are too one-sided to prove anything")
	}
}

// treeWorld makes random trees and requests over a small vocabulary.
type treeWorld struct{ *rand.Rand }

func pick[T any](w treeWorld, of ...T) T { return of[w.IntN(len(of))] }

var values = []string{"", "a", "b", "ab", "a,b", "10.1.0.1", "10.2.0.1", "x.ab", "ab.x.ab"}

func packed(m proto.Message) *corev3.TypedExtensionConfig {
	config, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return &corev3.TypedExtensionConfig{Name: "n", TypedConfig: config}
}

func (w treeWorld) matcher(depth int) *xdsmatcherv3.Matcher {
	m := &xdsmatcherv3.Matcher{}
	if w.IntN(2) == 0 {
		m.OnNoMatch = w.onMatch(depth - 1)
	}
	switch w.IntN(6) {
	case 0:
	case 1, 2:
		list := &xdsmatcherv3.Matcher_MatcherList{}
		for range 1 + w.IntN(3) {
			list.Matchers = append(list.Matchers, &xdsmatcherv3.Matcher_MatcherList_FieldMatcher{Predicate: w.predicate(2), OnMatch: w.onMatch(depth - 1)})
		}
		m.MatcherType = &xdsmatcherv3.Matcher_MatcherList_{MatcherList: list}
	default:
		tree := &xdsmatcherv3.Matcher_MatcherTree{Input: w.input()}
		entries := &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: map[string]*xdsmatcherv3.Matcher_OnMatch{}}
		for range 1 + w.IntN(4) {
			entries.Map[pick(w, values...)] = w.onMatch(depth - 1)
		}
		switch w.IntN(4) {
		case 0:
			tree.TreeType = &xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: entries}
		case 1:
			tree.TreeType = &xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap{PrefixMatchMap: entries}
		case 2:
			ips := &xdsmatcherv3.IPMatcher{}
			for range 1 + w.IntN(4) {
				ips.RangeMatchers = append(ips.RangeMatchers, &xdsmatcherv3.IPMatcher_IPRangeMatcher{
					Ranges:    []*corev3.CidrRange{{AddressPrefix: pick(w, "10.1.0.0", "10.2.0.0"), PrefixLen: wrapperspb.UInt32(pick[uint32](w, 8, 16, 0, 40))}},
					OnMatch:   w.onMatch(depth - 1),
					Exclusive: w.IntN(3) == 0,
				})
			}
			tree.TreeType = &xdsmatcherv3.Matcher_MatcherTree_CustomMatch{CustomMatch: packed(ips)}
		case 3:
			names := &xdsmatcherv3.ServerNameMatcher{}
			domains := []string{"*", "*.ab", "*.x.ab", "ab", "x.ab", "a"}
			w.Shuffle(len(domains), func(i, j int) { domains[i], domains[j] = domains[j], domains[i] })
			for _, d := range domains[:1+w.IntN(4)] {
				names.DomainMatchers = append(names.DomainMatchers, &xdsmatcherv3.ServerNameMatcher_DomainMatcher{Domains: []string{d}, OnMatch: w.onMatch(depth - 1)})
			}
			tree.TreeType = &xdsmatcherv3.Matcher_MatcherTree_CustomMatch{CustomMatch: packed(names)}
		}
		m.MatcherType = &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: tree}
	}
	return m
}

func (w treeWorld) onMatch(depth int) *xdsmatcherv3.Matcher_OnMatch {
	if depth > 0 && w.IntN(2) == 0 {
		return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Matcher{Matcher: w.matcher(depth)}}
	}
	action := packed(&rbacv3.Action{Name: fmt.Sprintf("p%d", w.IntN(1000)), Action: pick(w, rbacv3.RBAC_ALLOW, rbacv3.RBAC_ALLOW, rbacv3.RBAC_DENY, rbacv3.RBAC_LOG)})
	return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{Action: action}}
}

func (w treeWorld) input() *corev3.TypedExtensionConfig {
	return packed(pick[proto.Message](w, &matcherv3.HttpRequestHeaderMatchInput{HeaderName: "x"}, &matcherv3.HttpRequestHeaderMatchInput{HeaderName: "y"},
		&networkv3.SourceIPInput{}, &networkv3.ServerNameInput{}, &sslv3.UriSanInput{}))
}

func (w treeWorld) predicate(depth int) *xdsmatcherv3.Matcher_MatcherList_Predicate {
	type predicate = xdsmatcherv3.Matcher_MatcherList_Predicate
	list := func() *xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList {
		return &xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList{Predicate: []*predicate{w.predicate(depth - 1), w.predicate(depth - 1)}}
	}
	n := w.IntN(6)
	switch {
	case depth > 0 && n == 0:
		return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_AndMatcher{AndMatcher: list()}}
	case depth > 0 && n == 1:
		return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_OrMatcher{OrMatcher: list()}}
	case depth > 0 && n < 4:
		return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher{NotMatcher: w.predicate(depth - 1)}}
	}
	single := &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{Input: w.input()}
	if w.IntN(4) == 0 {
		single.Matcher = &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_CustomMatch{CustomMatch: packed(&ipv3.Ip{
			CidrRanges: []*envoycorev3.CidrRange{{AddressPrefix: "10.1.0.0", PrefixLen: wrapperspb.UInt32(16)}}, StatPrefix: "s",
		})}
	} else {
		v := pick(w, values[1:]...)
		single.Matcher = &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: pick(w,
			&xdsmatcherv3.StringMatcher{MatchPattern: &xdsmatcherv3.StringMatcher_Exact{Exact: pick(w, values...)}},
			&xdsmatcherv3.StringMatcher{MatchPattern: &xdsmatcherv3.StringMatcher_Prefix{Prefix: v}},
			&xdsmatcherv3.StringMatcher{MatchPattern: &xdsmatcherv3.StringMatcher_Suffix{Suffix: v}},
			&xdsmatcherv3.StringMatcher{MatchPattern: &xdsmatcherv3.StringMatcher_Contains{Contains: v}})}
	}
	return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{SinglePredicate: single}}
}

// plain is a request of which every attribute has one value; nil is not there.
type plain struct {
	x, y, source, sni, uris *string
	tls                     bool
}

func (p plain) String() string {
	show := func(s *string) string {
		if s == nil {
			return "-"
		}
		return fmt.Sprintf("%q", *s)
	}
	return fmt.Sprintf("x %s, y %s, source %s, SNI %s, URIs %s, TLS %v", show(p.x), show(p.y), show(p.source), show(p.sni), show(p.uris), p.tls)
}

func (p plain) request() *authz.Request {
	u := uncertain{tls: p.tls}
	if p.x != nil {
		u.x = []string{*p.x}
	}
	if p.y != nil {
		u.y = []string{*p.y}
	}
	u.source, u.sni, u.uris = p.source, p.sni, p.uris
	return u.request()
}

// uncertain is a request with any number of values of its headers, and perhaps without an address.
type uncertain struct {
	x, y              []string
	source, sni, uris *string
	tls               bool
}

func (w treeWorld) uncertain() uncertain {
	header := func() []string {
		var all []string
		for range pick(w, 0, 1, 1, 1, 2, 3) {
			all = append(all, pick(w, values...))
		}
		return all
	}
	u := uncertain{x: header(), y: header(), tls: w.IntN(2) == 0}
	if w.IntN(4) > 0 {
		u.source = new(pick(w, "10.1.0.1", "10.2.0.1", "2001:db8::1"))
	}
	if w.IntN(2) == 0 {
		u.sni = new(pick(w, values[1:]...))
	}
	if u.tls && w.IntN(4) > 0 {
		u.uris = new(pick(w, values[1:]...))
	}
	return u
}

func (u uncertain) request() *authz.Request {
	r := &authz.Request{HTTP: true, Method: "GET", Headers: testHeaders{"x": u.x, "y": u.y}}
	if u.source != nil {
		r.RemoteIP = netip.MustParseAddr(*u.source)
	}
	if u.sni != nil {
		r.ServerName = *u.sni
	}
	if u.tls {
		r.Peer = &authz.Peer{}
		if u.uris != nil {
			r.Peer.URISANs = []string{*u.uris}
		}
	}
	return r
}

// readings are the plain requests that u may be. An address that is not known may be any, or, as Envoy reads it, none.
func (u uncertain) readings() []plain {
	header := func(all []string) []*string {
		if len(all) == 0 {
			return []*string{nil}
		}
		var read []*string
		for _, v := range append(slices.Clone(all), strings.Join(all, ",")) {
			read = append(read, new(v))
		}
		return read
	}
	sources := []*string{u.source}
	if u.source == nil {
		sources = []*string{new("10.1.0.1"), new("10.2.0.1"), new("11.0.0.1"), nil}
	}
	var all []plain
	for _, x := range header(u.x) {
		for _, y := range header(u.y) {
			for _, source := range sources {
				all = append(all, plain{x, y, source, u.sni, u.uris, u.tls})
			}
		}
	}
	if len(u.x) == 1 && len(u.y) <= 1 || len(u.x) == 0 { // each value alone and joined are the same
		all = slices.CompactFunc(all, func(a, b plain) bool { return a.String() == b.String() })
	}
	return all
}

// result is the outcome of a match in Envoy.
type result uint8

const (
	no result = iota
	yes
	noData
)

// walk goes through a matcher: the action that is reached.
func (p plain) walk(m *xdsmatcherv3.Matcher) (name string, action rbacv3.RBAC_Action, r result) {
	branches := p.branches(m)
	if branches == nil {
		return "", 0, noData
	}
	for _, on := range branches {
		if on == nil { // a predicate without data
			return "", 0, noData
		}
		if inner := on.GetMatcher(); inner != nil {
			if name, action, r = p.walk(inner); r != no {
				return name, action, r
			}
			continue
		}
		var a rbacv3.Action
		if err := on.GetAction().GetTypedConfig().UnmarshalTo(&a); err != nil {
			panic(err)
		}
		return a.GetName(), a.GetAction(), yes
	}
	return "", 0, no
}

// branches are those that are tried, in order, with on_no_match at the end; nil: there is no data. A nil branch is where a list
// comes to a predicate without data.
func (p plain) branches(m *xdsmatcherv3.Matcher) []*xdsmatcherv3.Matcher_OnMatch {
	all := []*xdsmatcherv3.Matcher_OnMatch{}
	for _, fm := range m.GetMatcherList().GetMatchers() {
		switch p.predicate(fm.GetPredicate()) {
		case yes:
			all = append(all, fm.GetOnMatch())
		case noData:
			all = append(all, nil)
		}
	}
	if tree := m.GetMatcherTree(); tree != nil {
		v, ok := p.input(tree.GetInput())
		if !ok {
			return nil
		}
		if v != nil {
			all = append(all, lookup(tree, *v)...)
		}
	}
	if m.GetOnNoMatch() != nil {
		all = append(all, m.GetOnNoMatch())
	}
	return all
}

func lookup(tree *xdsmatcherv3.Matcher_MatcherTree, v string) (all []*xdsmatcherv3.Matcher_OnMatch) {
	if on := tree.GetExactMatchMap().GetMap()[v]; on != nil {
		return append(all, on)
	}
	for i := len(v); i >= 0; i-- {
		if on := tree.GetPrefixMatchMap().GetMap()[v[:i]]; on != nil {
			all = append(all, on)
		}
	}
	if tree.GetCustomMatch() == nil {
		return all
	}
	config, err := tree.GetCustomMatch().GetTypedConfig().UnmarshalNew()
	if err != nil {
		panic(err)
	}
	switch config := config.(type) {
	case *xdsmatcherv3.IPMatcher:
		addr, err := netip.ParseAddr(v)
		if err != nil || v == "" {
			return nil
		}
		for length := 128; length >= 0; length-- {
			for _, rm := range config.GetRangeMatchers() {
				for _, r := range rm.GetRanges() {
					within := netip.PrefixFrom(netip.MustParseAddr(r.GetAddressPrefix()), min(32, int(r.GetPrefixLen().GetValue())))
					if int(r.GetPrefixLen().GetValue()) == length && within.Contains(addr) && (len(all) == 0 || !rm.GetExclusive()) {
						all = append(all, rm.GetOnMatch())
					}
				}
			}
		}
	case *xdsmatcherv3.ServerNameMatcher:
		if v == "" {
			return nil
		}
		candidates := []string{v}
		for rest := v; ; {
			_, after, ok := strings.Cut(rest, ".")
			if !ok {
				break
			}
			candidates, rest = append(candidates, "*."+after), after
		}
		for _, c := range append(candidates, "*") {
			for _, dm := range config.GetDomainMatchers() {
				if slices.Contains(dm.GetDomains(), c) {
					all = append(all, dm.GetOnMatch())
				}
			}
		}
	}
	return all
}

func (p plain) predicate(m *xdsmatcherv3.Matcher_MatcherList_Predicate) result {
	switch kind := m.GetMatchType().(type) {
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher:
		r := p.predicate(kind.NotMatcher)
		if r == noData {
			return r
		}
		return 1 - r
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_AndMatcher:
		for _, part := range kind.AndMatcher.GetPredicate() {
			if r := p.predicate(part); r != yes {
				return r
			}
		}
		return yes
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_OrMatcher:
		worst := no
		for _, part := range kind.OrMatcher.GetPredicate() {
			switch p.predicate(part) {
			case yes:
				return yes
			case noData:
				worst = noData
			}
		}
		return worst
	}
	single := m.GetSinglePredicate()
	v, ok := p.input(single.GetInput())
	switch {
	case !ok:
		return noData
	case v == nil:
		return no
	}
	match := false
	switch test := single.GetValueMatch().GetMatchPattern().(type) {
	case *xdsmatcherv3.StringMatcher_Exact:
		match = *v == test.Exact
	case *xdsmatcherv3.StringMatcher_Prefix:
		match = strings.HasPrefix(*v, test.Prefix)
	case *xdsmatcherv3.StringMatcher_Suffix:
		match = strings.HasSuffix(*v, test.Suffix)
	case *xdsmatcherv3.StringMatcher_Contains:
		match = strings.Contains(*v, test.Contains)
	default:
		addr, err := netip.ParseAddr(*v)
		match = err == nil && netip.MustParsePrefix("10.1.0.0/16").Contains(addr)
	}
	if match {
		return yes
	}
	return no
}

// input is a value, nil when it is absent; not ok: there is no data.
func (p plain) input(ext *corev3.TypedExtensionConfig) (v *string, ok bool) {
	config, err := ext.GetTypedConfig().UnmarshalNew()
	if err != nil {
		panic(err)
	}
	switch config := config.(type) {
	case *matcherv3.HttpRequestHeaderMatchInput:
		if config.GetHeaderName() == "x" {
			return p.x, true
		}
		return p.y, true
	case *networkv3.SourceIPInput:
		return p.source, true
	case *networkv3.ServerNameInput:
		return p.sni, true
	}
	return p.uris, p.tls
}
