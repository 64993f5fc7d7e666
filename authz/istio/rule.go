package istio

import (
	"errors"
	"fmt"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	securityv1beta1 "istio.io/api/security/v1beta1"
)

// translator makes one Envoy policy of one rule. Its shape is istiod's:
//
//	permissions  one for each `to`    and_rules[ or_rules[values], not_rule{or_rules[notValues]}, … ]
//	principals   one for each `from`  and_ids[ or_ids[values], not_id{or_ids[notValues]}, … ]
//
// Conditions (`when`) stand at the end of every permission or every principal, whichever their attribute belongs to.
type translator struct {
	target    *Target
	namespace string
	allow     bool
	dropped   []string // what a TCP port cannot see
}

// field is an attribute with what it must and must not be.
type field[M any] struct {
	path        string // in the rule, for errors
	values, not []string
	httpOnly    bool
	match       func(value string) (M, error)
	all         func(values []string) (M, error) // instead of match: one matcher for all values
}

// errHTTPOnly says that a rule has an attribute which a TCP port does not have.
var errHTTPOnly = errors.New("HTTP attribute on a TCP port")

func (t *translator) rule(r *securityv1beta1.Rule) (*rbacv3.Policy, error) {
	var permissions []field[*rbacv3.Permission]
	var principals []field[*rbacv3.Principal]
	for i, c := range r.GetWhen() {
		path := fmt.Sprintf("when[%d]", i)
		if len(c.GetValues())+len(c.GetNotValues()) == 0 {
			return nil, fmt.Errorf("%s: neither values nor notValues", path)
		}
		if f, ok, err := t.permissionCondition(path, c); err != nil {
			return nil, err
		} else if ok {
			permissions = append(permissions, f)
			continue
		}
		f, err := t.principalCondition(path, c)
		if err != nil {
			return nil, err
		}
		principals = append(principals, f)
	}
	out := &rbacv3.Policy{}
	tos := r.GetTo()
	if len(tos) == 0 {
		tos = []*securityv1beta1.Rule_To{nil}
	}
	for i, to := range tos {
		parts, err := alternatives(t, append(t.operation(fmt.Sprintf("to[%d].operation", i), to.GetOperation()), permissions...), orPermissions, notPermission)
		if errors.Is(err, errHTTPOnly) {
			return nil, nil // the whole rule goes; it was reported
		} else if err != nil {
			return nil, err
		}
		if len(parts) == 0 {
			parts = []*rbacv3.Permission{anyPermission()}
		}
		out.Permissions = append(out.Permissions, &rbacv3.Permission{Rule: &rbacv3.Permission_AndRules{AndRules: &rbacv3.Permission_Set{Rules: parts}}})
	}
	froms := r.GetFrom()
	if len(froms) == 0 {
		froms = []*securityv1beta1.Rule_From{nil}
	}
	for i, from := range froms {
		parts, err := alternatives(t, append(t.source(fmt.Sprintf("from[%d].source", i), from.GetSource()), principals...), orPrincipals, notPrincipal)
		if errors.Is(err, errHTTPOnly) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		if len(parts) == 0 {
			parts = []*rbacv3.Principal{anyPrincipal()}
		}
		out.Principals = append(out.Principals, &rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{Ids: parts}}})
	}
	return out, nil
}

// alternatives turns fields into the parts of an and. On a TCP port a field of HTTP is left out where that makes the policy
// stricter (DENY, AUDIT), and takes the rule with it where leaving it out would make the policy looser (ALLOW).
func alternatives[M any](t *translator, fields []field[M], or func([]M) M, not func(M) M) ([]M, error) {
	var out []M
	for _, f := range fields {
		if len(f.values)+len(f.not) == 0 {
			continue
		}
		if f.httpOnly && t.target.TCP {
			if t.allow {
				t.dropped = append(t.dropped, f.path+" is HTTP only: on a TCP port the rule allows nothing")
				return nil, errHTTPOnly
			}
			t.dropped = append(t.dropped, f.path+" is HTTP only: on a TCP port the rule holds without it")
			continue
		}
		for _, side := range []struct {
			values []string
			not    bool
		}{{f.values, false}, {f.not, true}} {
			if len(side.values) == 0 {
				continue
			}
			list, err := f.matchers(side.values)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.path, err)
			}
			m := or(list)
			if side.not {
				m = not(m)
			}
			out = append(out, m)
		}
	}
	return out, nil
}

func (f *field[M]) matchers(values []string) ([]M, error) {
	if f.all != nil {
		m, err := f.all(values)
		return []M{m}, err
	}
	var out []M
	for _, v := range values {
		if v == "" {
			return nil, errors.New("an empty value")
		}
		m, err := f.match(v)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func anyPermission() *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_Any{Any: true}}
}

func anyPrincipal() *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_Any{Any: true}}
}

func orPermissions(l []*rbacv3.Permission) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_OrRules{OrRules: &rbacv3.Permission_Set{Rules: l}}}
}

func notPermission(p *rbacv3.Permission) *rbacv3.Permission {
	return &rbacv3.Permission{Rule: &rbacv3.Permission_NotRule{NotRule: p}}
}

func orPrincipals(l []*rbacv3.Principal) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_OrIds{OrIds: &rbacv3.Principal_Set{Ids: l}}}
}

func notPrincipal(p *rbacv3.Principal) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_NotId{NotId: p}}
}
