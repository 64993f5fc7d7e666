package reverse

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	securityv1beta1 "istio.io/api/security/v1beta1"
)

// item is one part of an and: one of several values, or none of them. By key, since it may be written in several ways.
type item struct {
	lists map[string][]string
	not   bool
}

func (i *item) equal(j *item) bool {
	return i.not == j.not && maps.EqualFunc(i.lists, j.lists, slices.Equal)
}

// slots are the fields of an operation or of a source by the key of the condition that asks the same, in istiod's order.
var (
	operationSlots = []string{keyHost, keyMethod, keyPath, keyPort}
	sourceSlots    = []string{"source.principal", "request.auth.principal", "source.serviceAccount", "source.trustDomain", "source.namespace", "remote.ip", "source.ip"}
)

// rule reads a rule, without knowing yet whether the same RBAC would be made of it.
func rule(p *rbacv3.Policy) (*securityv1beta1.Rule, error) {
	var tos, froms [][]item
	for i, permission := range p.GetPermissions() {
		if permission.GetAndRules() == nil {
			return nil, fmt.Errorf("permissions[%d] is not one of and_rules", i)
		}
		var all []item
		for j, part := range permission.GetAndRules().GetRules() {
			it, any, err := permissionItem(part)
			if err != nil {
				return nil, fmt.Errorf("permissions[%d].and_rules.rules[%d]: %w", i, j, err)
			}
			if !any {
				all = append(all, it)
			}
		}
		tos = append(tos, all)
	}
	for i, principal := range p.GetPrincipals() {
		if principal.GetAndIds() == nil {
			return nil, fmt.Errorf("principals[%d] is not one of and_ids", i)
		}
		var all []item
		for j, part := range principal.GetAndIds().GetIds() {
			it, any, err := principalItem(part)
			if err != nil {
				return nil, fmt.Errorf("principals[%d].and_ids.ids[%d]: %w", i, j, err)
			}
			if !any {
				all = append(all, it)
			}
		}
		froms = append(froms, all)
	}
	out := &securityv1beta1.Rule{}
	to, when, err := place(tos, operationSlots)
	if err != nil {
		return nil, fmt.Errorf("permissions: %w", err)
	}
	from, more, err := place(froms, sourceSlots)
	if err != nil {
		return nil, fmt.Errorf("principals: %w", err)
	}
	for _, fields := range to {
		out.To = append(out.To, &securityv1beta1.Rule_To{Operation: operation(fields)})
	}
	for _, fields := range from {
		out.From = append(out.From, &securityv1beta1.Rule_From{Source: source(fields)})
	}
	for _, it := range slices.Concat(when, more) {
		out.When = appendCondition(out.When, &it)
	}
	return out, nil
}

func permissionItem(p *rbacv3.Permission) (item, bool, error) {
	not := false
	if p.GetAny() {
		return item{}, true, nil
	}
	if n := p.GetNotRule(); n != nil {
		p, not = n, true
	}
	rules := []*rbacv3.Permission{p} // one for all values stands alone
	if or := p.GetOrRules(); or != nil {
		rules = or.GetRules()
	}
	var all []values
	for _, part := range rules {
		if many := part.GetMetadata().GetValue().GetOrMatch(); many != nil && len(rules) == 1 { // of experimental.envoy.filters
			m := part.GetMetadata()
			path := metadataPath(m)
			for _, v := range many.GetValueMatchers() {
				value, ok := filterValue(v)
				all = append(all, one("experimental."+m.GetFilter()+"["+path[0]+"]", value, ok && len(path) == 1 && !m.GetInvert()))
			}
			continue
		}
		all = append(all, permissionValues(part))
	}
	return common(all, not)
}

func principalItem(p *rbacv3.Principal) (item, bool, error) {
	not := false
	if p.GetAny() {
		return item{}, true, nil
	}
	if n := p.GetNotId(); n != nil {
		p, not = n, true
	}
	ids := []*rbacv3.Principal{p} // one for all values stands alone
	if or := p.GetOrIds(); or != nil {
		ids = or.GetIds()
	}
	if len(ids) == 1 && ids[0].GetOrIds() != nil { // several request principals
		ids = ids[0].GetOrIds().GetIds()
	}
	if len(ids) == 1 && ids[0].GetMetadata() != nil {
		if key, list := claimValues(ids[0].GetMetadata()); key != "" {
			return item{map[string][]string{key: list}, not}, false, nil
		}
	}
	var all []values
	for _, part := range ids {
		all = append(all, principalValues(part))
	}
	return common(all, not)
}

// common makes an item of values that have a key in common.
func common(all []values, not bool) (item, bool, error) {
	out := item{map[string][]string{}, not}
	if len(all) > 0 {
		for key := range all[0] {
			var list []string
			for _, v := range all {
				if value, ok := v[key]; ok {
					list = append(list, value)
				}
			}
			if len(list) == len(all) {
				out.lists[key] = list
			}
		}
	}
	if len(out.lists) == 0 {
		return out, false, errors.New("nothing that a policy can say")
	}
	return out, false, nil
}

// place tells what of the alternatives was written in `to` or `from`, and what in `when`: conditions are appended to every
// alternative. The fewest conditions are taken that leave the rest in the order of the slots. No alternatives are returned
// for a rule without `to` or `from`.
func place(alternatives [][]item, slots []string) (fields []map[string]item, when []item, err error) {
	if len(alternatives) == 0 {
		return nil, nil, errors.New("none")
	}
	shared := len(alternatives[0])
	for _, a := range alternatives[1:] {
		n := 0
		for n < min(shared, len(a)) && a[len(a)-1-n].equal(&alternatives[0][len(alternatives[0])-1-n]) {
			n++
		}
		shared = n
	}
	for n := 0; n <= shared; n++ {
		fields, ok := []map[string]item{}, true
		for _, a := range alternatives {
			f, fits := fill(a[:len(a)-n], slots)
			ok = ok && fits && (len(f) > 0 || len(alternatives) == 1)
			fields = append(fields, f)
		}
		first := alternatives[0]
		when = first[len(first)-n:]
		if !ok || slices.ContainsFunc(when, func(i item) bool { return conditionKey(&i) == "" }) {
			continue
		}
		if len(fields) == 1 && len(fields[0]) == 0 {
			fields = nil
		}
		return fields, when, nil
	}
	return nil, nil, errors.New("not in the order in which istiod writes them")
}

// fill puts items into slots, in order. Keys of the result are slots, with "not " before those of what must not be.
func fill(items []item, slots []string) (map[string]item, bool) {
	out, at := map[string]item{}, 0
	for _, it := range items {
		found := false
		for ; at < 2*len(slots) && !found; at++ {
			slot := slots[at/2]
			if _, ok := it.lists[slot]; ok && it.not == (at%2 == 1) {
				if it.not {
					slot = "not " + slot
				}
				out[slot], found = it, true
			}
		}
		if !found {
			return nil, false
		}
	}
	return out, true
}

// conditionKey is the key under which an item can be a condition, "" if it cannot.
func conditionKey(it *item) string {
	for _, key := range slices.Sorted(maps.Keys(it.lists)) {
		if key != keyHost && key != keyMethod && key != keyPath {
			return key
		}
	}
	return ""
}

// appendCondition adds a condition, or to the one before it if that has the same key and lacks this side.
func appendCondition(list []*securityv1beta1.Condition, it *item) []*securityv1beta1.Condition {
	key := conditionKey(it)
	if n := len(list); n > 0 && it.not && list[n-1].Key == key && list[n-1].NotValues == nil {
		list[n-1].NotValues = it.lists[key]
		return list
	}
	c := &securityv1beta1.Condition{Key: key, Values: it.lists[key]}
	if it.not {
		c.Values, c.NotValues = nil, c.Values
	}
	return append(list, c)
}

func operation(f map[string]item) *securityv1beta1.Operation {
	get := func(slot string) []string { return f[slot].lists[slot] }
	not := func(slot string) []string { return f["not "+slot].lists[slot] }
	return &securityv1beta1.Operation{
		Hosts: get(keyHost), NotHosts: not(keyHost), Methods: get(keyMethod), NotMethods: not(keyMethod),
		Paths: get(keyPath), NotPaths: not(keyPath), Ports: get(keyPort), NotPorts: not(keyPort),
	}
}

func source(f map[string]item) *securityv1beta1.Source {
	get := func(slot string) []string { return f[slot].lists[slot] }
	not := func(slot string) []string { return f["not "+slot].lists[slot] }
	return &securityv1beta1.Source{
		Principals: get("source.principal"), NotPrincipals: not("source.principal"),
		RequestPrincipals: get("request.auth.principal"), NotRequestPrincipals: not("request.auth.principal"),
		ServiceAccounts: get("source.serviceAccount"), NotServiceAccounts: not("source.serviceAccount"),
		TrustDomains: get("source.trustDomain"), NotTrustDomains: not("source.trustDomain"),
		Namespaces: get("source.namespace"), NotNamespaces: not("source.namespace"),
		RemoteIpBlocks: get("remote.ip"), NotRemoteIpBlocks: not("remote.ip"),
		IpBlocks: get("source.ip"), NotIpBlocks: not("source.ip"),
	}
}
