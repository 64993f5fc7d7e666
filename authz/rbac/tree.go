package rbac

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	corev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"

	"github.com/gowaypoint/gowaypoint/authz"
)

// maxDepth bounds how deep matchers may be nested: the depth of messages that Envoy's protobuf parser takes.
const maxDepth = 100

// tree flattens a matcher tree into rules that are tried in order, one for each action: the conditions on the way to the
// action, all of which have to hold.
//
// That says the same as the tree because of how Envoy (1.40) walks it: where a branch ends without an action the search goes
// on with the next candidate (of a list the next matcher, of a prefix map the next shorter prefix, of ranges and domains
// the next wider one), then with on_no_match, then after the matcher that this one is nested in. So an action is reached
// exactly if the conditions above it hold and no action before it, in depth-first order, is reached. A request that reaches
// none is denied.
//
// And it keeps the two readings of an uncertain attribute (see package authz), because a rule that allows or logs has to match
// certainly and one that denies only possibly, wherever they stand: if a request is let pass, then it is by every way of reading
// it. Take one such way. The rule that let it pass also matches so, and no denial before it does, since none did even possibly.
type tree struct {
	layer layer
	out   *translation
}

func translateTree(m *matcherv3.Matcher, l layer) (*translation, error) {
	t := &tree{layer: l, out: &translation{tree: true}}
	if err := t.matcher(m, nil, 0); err != nil {
		return nil, err
	}
	return t.out, nil
}

// matcher appends the rules of a matcher. path is what holds when the search comes to it.
func (t *tree) matcher(m *matcherv3.Matcher, path []authz.Clause, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("matchers are nested more than %d deep", maxDepth)
	}
	switch kind := m.GetMatcherType().(type) {
	case nil: // on_no_match always
	case *matcherv3.Matcher_MatcherList_:
		if err := t.list(kind.MatcherList, path, depth); err != nil {
			return at("matcher_list", err)
		}
	case *matcherv3.Matcher_MatcherTree_:
		if err := t.lookup(kind.MatcherTree, path, depth); err != nil {
			return at("matcher_tree", err)
		}
	default:
		return errors.New("matcher_type: of a kind that this build does not know")
	}
	if m.GetOnNoMatch() == nil {
		return nil
	}
	return at("on_no_match", t.onMatch(m.GetOnNoMatch(), path, depth))
}

// list appends the rules of matchers that are tried in order.
func (t *tree) list(m *matcherv3.Matcher_MatcherList, path []authz.Clause, depth int) error {
	for i, fm := range m.GetMatchers() {
		p, err := t.predicate(fm.GetPredicate())
		if err != nil {
			return at(fmt.Sprintf("matchers[%d].predicate", i), err)
		}
		t.giveUp(path, p.unknown)
		if err := t.onMatch(fm.GetOnMatch(), with(path, p.holds), depth); err != nil {
			return at(fmt.Sprintf("matchers[%d].on_match", i), err)
		}
	}
	return nil
}

// lookup appends the rules of a map from values of an input.
func (t *tree) lookup(m *matcherv3.Matcher_MatcherTree, path []authz.Clause, depth int) error {
	in, err := t.input(m.GetInput())
	if err != nil {
		return at("input", err)
	}
	if in.text == nil { // Envoy takes it, and then finds nothing in the map, ever
		return at("input", fmt.Errorf("%w in a map (it is not text)", errNotSupported))
	}
	t.giveUp(path, in.unknown)
	switch kind := m.GetTreeType().(type) {
	case *matcherv3.Matcher_MatcherTree_ExactMatchMap:
		// At most one of them matches, in whatever order; unless a header has several values, and then a denial comes first
		// or an allow is not certain.
		for _, key := range slices.Sorted(maps.Keys(kind.ExactMatchMap.GetMap())) {
			if err := t.onMatch(kind.ExactMatchMap.GetMap()[key], with(path, in.is(key)), depth); err != nil {
				return at(fmt.Sprintf("exact_match_map.map[%q]", key), err)
			}
		}
		return nil
	case *matcherv3.Matcher_MatcherTree_PrefixMatchMap:
		// A prefix comes after those that begin with it.
		for _, key := range slices.Backward(slices.Sorted(maps.Keys(kind.PrefixMatchMap.GetMap()))) {
			if err := t.onMatch(kind.PrefixMatchMap.GetMap()[key], with(path, in.text(authz.Prefix(key))), depth); err != nil {
				return at(fmt.Sprintf("prefix_match_map.map[%q]", key), err)
			}
		}
		return nil
	case *matcherv3.Matcher_MatcherTree_CustomMatch:
		return at("custom_match", t.custom(kind.CustomMatch.GetTypedConfig(), in, path, depth))
	}
	return errors.New("tree_type: not set, or of a kind that this build does not know")
}

// onMatch appends the rules of a branch.
func (t *tree) onMatch(m *matcherv3.Matcher_OnMatch, path []authz.Clause, depth int) error {
	if m.GetKeepMatching() {
		return notSupported("keep_matching", "in RBAC, by Envoy neither")
	}
	switch on := m.GetOnMatch().(type) {
	case *matcherv3.Matcher_OnMatch_Matcher:
		return at("matcher", t.matcher(on.Matcher, path, depth+1))
	case *matcherv3.Matcher_OnMatch_Action:
		return at("action", t.action(on.Action, path))
	}
	return errors.New("on_match: not set, or of a kind that this build does not know")
}

// action appends the rule of an action.
func (t *tree) action(ext *corev3.TypedExtensionConfig, path []authz.Clause) error {
	var config rbacv3.Action
	if !ext.GetTypedConfig().MessageIs(&config) {
		return unknownExtension(ext.GetTypedConfig())
	}
	if err := unpack(ext.GetTypedConfig(), &config); err != nil {
		return err
	}
	action, err := actionOf(config.GetAction())
	if err != nil {
		return fmt.Errorf("policy %q: action: %w", config.GetName(), err)
	}
	t.out.logs = t.out.logs || action == authz.Log
	t.rule(action, config.GetName(), path)
	return nil
}

// giveUp appends a denial in no policy's name for where Envoy can't evaluate a condition and ends the search.
func (t *tree) giveUp(path []authz.Clause, unknown authz.Clause) {
	if unknown != nil {
		t.rule(authz.Deny, "", with(path, unknown))
	}
}

func (t *tree) rule(action authz.Action, name string, path []authz.Clause) {
	t.out.rules = append(t.out.rules, authz.Rule{Action: action, Policy: authz.Policy{
		Name: name, Permissions: []authz.Clause{authz.And(path)}, Principals: []authz.Clause{authz.Always{}},
	}})
}

// with is a path with more conditions. Paths share nothing, since each branch goes on from its own.
func with(path []authz.Clause, more ...authz.Clause) []authz.Clause { return slices.Concat(path, more) }
