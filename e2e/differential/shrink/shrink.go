// Package shrink makes a pair on which two parties differ small, so that what makes them differ is what is left.
package shrink

import (
	"net/http"
	"slices"
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
)

// Pair is a set and a request.
type Pair struct {
	Set     *pair.Set
	Request *pair.Request
}

// Shrink tries smaller and smaller pairs as long as one of them still fails. fails is given many at once, because asking costs
// more per time than per pair, and returns the index of one that fails, or -1. It must not be given more than limit.
func Shrink(p Pair, limit int, fails func([]Pair) (int, error)) (Pair, error) {
	for {
		candidates := smaller(p)
		found := -1
		for chunk := range slices.Chunk(candidates, limit) {
			i, err := fails(chunk)
			if err != nil {
				return p, err
			}
			if i >= 0 {
				p, found = chunk[i], i
				break
			}
		}
		if found < 0 {
			return p, nil
		}
	}
}

// smaller lists pairs with one thing less, large things first.
func smaller(p Pair) []Pair {
	var out []Pair
	set := func(filters []pair.Filter) {
		s := *p.Set
		s.Filters = filters
		out = append(out, Pair{&s, p.Request})
	}
	filters := p.Set.Filters
	for i := range filters {
		if len(filters) > 1 {
			set(slices.Delete(slices.Clone(filters), i, i+1))
		}
	}
	for i, f := range filters {
		with := func(f pair.Filter) {
			all := slices.Clone(filters)
			all[i] = f
			set(all)
		}
		if f.Rules != nil && f.Shadow != nil {
			with(pair.Filter{Rules: f.Rules})
			with(pair.Filter{Shadow: f.Shadow})
		}
		for _, rules := range smallerRules(f.Rules) {
			with(pair.Filter{Rules: rules, Shadow: f.Shadow})
		}
		for _, rules := range smallerRules(f.Shadow) {
			with(pair.Filter{Rules: f.Rules, Shadow: rules})
		}
	}
	for _, r := range smallerRequests(p.Request) {
		out = append(out, Pair{p.Set, r})
	}
	return out
}

func smallerRules(rules *rbacv3.RBAC) []*rbacv3.RBAC {
	var out []*rbacv3.RBAC
	for name, policy := range rules.GetPolicies() {
		without := proto.Clone(rules).(*rbacv3.RBAC)
		delete(without.Policies, name)
		out = append(out, without)
		with := func(p *rbacv3.Policy) {
			smaller := proto.Clone(rules).(*rbacv3.RBAC)
			smaller.Policies[name] = p
			out = append(out, smaller)
		}
		for _, list := range smallerLists(policy.GetPermissions(), smallerPermissions) {
			with(&rbacv3.Policy{Permissions: list, Principals: policy.GetPrincipals()})
		}
		for _, list := range smallerLists(policy.GetPrincipals(), smallerPrincipals) {
			with(&rbacv3.Policy{Permissions: policy.GetPermissions(), Principals: list})
		}
	}
	return out
}

// smallerLists leaves an element out, or makes one smaller. A list stays non-empty, as the API wants it.
func smallerLists[M any](list []M, smaller func(M) []M) [][]M {
	var out [][]M
	for i, m := range list {
		if len(list) > 1 {
			out = append(out, slices.Delete(slices.Clone(list), i, i+1))
		}
		for _, one := range smaller(m) {
			next := slices.Clone(list)
			next[i] = one
			out = append(out, next)
		}
	}
	return out
}

func smallerPermissions(m *rbacv3.Permission) []*rbacv3.Permission {
	nothing := &rbacv3.Permission{Rule: &rbacv3.Permission_Any{Any: true}}
	out := []*rbacv3.Permission{nothing}
	switch rule := m.GetRule().(type) {
	case *rbacv3.Permission_Any:
		return nil
	case *rbacv3.Permission_AndRules:
		out = append(out, rule.AndRules.GetRules()...)
		for _, list := range smallerLists(rule.AndRules.GetRules(), smallerPermissions) {
			out = append(out, &rbacv3.Permission{Rule: &rbacv3.Permission_AndRules{AndRules: &rbacv3.Permission_Set{Rules: list}}})
		}
	case *rbacv3.Permission_OrRules:
		out = append(out, rule.OrRules.GetRules()...)
		for _, list := range smallerLists(rule.OrRules.GetRules(), smallerPermissions) {
			out = append(out, &rbacv3.Permission{Rule: &rbacv3.Permission_OrRules{OrRules: &rbacv3.Permission_Set{Rules: list}}})
		}
	case *rbacv3.Permission_NotRule:
		out = append(out, rule.NotRule)
		for _, one := range smallerPermissions(rule.NotRule) {
			out = append(out, &rbacv3.Permission{Rule: &rbacv3.Permission_NotRule{NotRule: one}})
		}
	}
	return out
}

func smallerPrincipals(m *rbacv3.Principal) []*rbacv3.Principal {
	nothing := &rbacv3.Principal{Identifier: &rbacv3.Principal_Any{Any: true}}
	out := []*rbacv3.Principal{nothing}
	switch id := m.GetIdentifier().(type) {
	case *rbacv3.Principal_Any:
		return nil
	case *rbacv3.Principal_AndIds:
		out = append(out, id.AndIds.GetIds()...)
		for _, list := range smallerLists(id.AndIds.GetIds(), smallerPrincipals) {
			out = append(out, &rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{Ids: list}}})
		}
	case *rbacv3.Principal_OrIds:
		out = append(out, id.OrIds.GetIds()...)
		for _, list := range smallerLists(id.OrIds.GetIds(), smallerPrincipals) {
			out = append(out, &rbacv3.Principal{Identifier: &rbacv3.Principal_OrIds{OrIds: &rbacv3.Principal_Set{Ids: list}}})
		}
	case *rbacv3.Principal_NotId:
		out = append(out, id.NotId)
		for _, one := range smallerPrincipals(id.NotId) {
			out = append(out, &rbacv3.Principal{Identifier: &rbacv3.Principal_NotId{NotId: one}})
		}
	}
	return out
}

func smallerRequests(r *pair.Request) []*pair.Request {
	var out []*pair.Request
	with := func(change func(*pair.Request)) {
		next := *r
		next.Lines = slices.Clone(r.Lines)
		change(&next)
		out = append(out, &next)
	}
	if r.Principal != "" {
		with(func(r *pair.Request) { r.Principal = "" })
	}
	if r.Address != "" {
		with(func(r *pair.Request) { r.Address = "" })
	}
	if r.Claims != nil {
		with(func(r *pair.Request) { r.Claims = nil })
	}
	if r.Other != nil {
		with(func(r *pair.Request) { r.Other = nil })
	}
	if !r.HTTP {
		return out
	}
	for i := range r.Lines {
		with(func(r *pair.Request) { r.Lines = slices.Delete(r.Lines, i, i+1) })
	}
	if r.Method != http.MethodGet {
		with(func(r *pair.Request) { r.Method = http.MethodGet })
	}
	if r.Host != "h" {
		with(func(r *pair.Request) { r.Host = "h" })
	}
	if r.Target != "/" {
		with(func(r *pair.Request) { r.Target = "/" })
		if path, _, ok := strings.Cut(r.Target, "?"); ok {
			with(func(r *pair.Request) { r.Target = path })
		}
		for i := 1; i < min(len(r.Target), 100); i++ {
			with(func(r *pair.Request) { r.Target = r.Target[:i] + r.Target[i+1:] })
		}
	}
	for i, l := range r.Lines {
		for k := range min(len(l.Value), 20) {
			with(func(r *pair.Request) { r.Lines[i].Value = strings.Trim(l.Value[:k]+l.Value[k+1:], " ") })
		}
		if n := len(l.Value); n > 20 {
			with(func(r *pair.Request) { r.Lines[i].Value = strings.Trim(l.Value[:n/2], " ") })
		}
	}
	return out
}
