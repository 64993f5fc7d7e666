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
	dropped   []string // what istiod leaves out
	notes     []string // what stands for more than it says
}

// field is an attribute with what it must and must not be.
type field[M any] struct {
	path        string // in the rule, for errors
	values, not []string
	httpOnly    bool
	match       func(value string) (M, error)
	all         func(values []string) (M, error) // instead of match: one matcher for all values
}

// refusal is an error of ours, as opposed to one of istiod's, on which istiod leaves something out.
type refusal struct{ error }

func refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

// errLeftOut says that istiod leaves out the whole rule; the reason has been recorded.
var errLeftOut = errors.New("rule left out")

// rule translates a rule. Nil stands for one that istiod leaves out.
func (t *translator) rule(r *securityv1beta1.Rule) (*rbacv3.Policy, error) {
	p, err := t.policy(r)
	if errors.Is(err, errLeftOut) {
		return nil, nil
	}
	return p, err
}

func (t *translator) policy(r *securityv1beta1.Rule) (*rbacv3.Policy, error) {
	if r == nil {
		return nil, t.leaveOut("null is no rule")
	}
	permissions, principals, err := t.conditions(r.GetWhen())
	if err != nil {
		return nil, err
	}
	out := &rbacv3.Policy{}
	tos := r.GetTo()
	if len(tos) == 0 {
		tos = []*securityv1beta1.Rule_To{nil}
	}
	for i, to := range tos {
		parts, err := collect(t, append(t.operation(fmt.Sprintf("to[%d].operation", i), to.GetOperation()), permissions...), orPermissions, notPermission)
		if err != nil {
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
		parts, err := collect(t, append(t.source(fmt.Sprintf("from[%d].source", i), from.GetSource()), principals...), orPrincipals, notPrincipal)
		if err != nil {
			return nil, err
		}
		if len(parts) == 0 {
			parts = []*rbacv3.Principal{anyPrincipal()}
		}
		out.Principals = append(out.Principals, &rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{Ids: parts}}})
	}
	return out, nil
}

// conditions sorts the conditions of a rule into those of what is asked for and of who asks.
func (t *translator) conditions(when []*securityv1beta1.Condition) ([]field[*rbacv3.Permission], []field[*rbacv3.Principal], error) {
	var permissions []field[*rbacv3.Permission]
	var principals []field[*rbacv3.Principal]
	for i, c := range when {
		path := fmt.Sprintf("when[%d]", i)
		if f, ok := permissionCondition(path, c); ok {
			permissions = append(permissions, f)
		} else if f, ok := t.principalCondition(path, c); ok {
			principals = append(principals, f)
		} else {
			return nil, nil, t.leaveOut(fmt.Sprintf("%s.key: unknown attribute %q", path, c.GetKey()))
		}
	}
	return permissions, principals, nil
}

func (t *translator) leaveOut(why string) error {
	t.dropped = append(t.dropped, why+": the rule is left out")
	return errLeftOut
}

// collect turns fields into the parts of an and. A value that cannot be translated is left out where that makes the policy
// stricter (DENY, AUDIT, CUSTOM), and takes the rule with it where leaving it out would make the policy looser (ALLOW). On
// a TCP port that is so for all attributes of HTTP.
func collect[M any](t *translator, fields []field[M], or func([]M) M, not func(M) M) ([]M, error) {
	var out []M
	for i := range fields {
		f := &fields[i]
		if f.httpOnly && t.target.TCP && len(f.values)+len(f.not) > 0 {
			if t.allow {
				t.dropped = append(t.dropped, f.path+" is HTTP only: on a TCP port the rule allows nothing")
				return nil, errLeftOut
			}
			t.dropped = append(t.dropped, f.path+" is HTTP only: on a TCP port the rule holds without it")
			continue
		}
		values, err := f.side(t, f.values, or)
		if err != nil {
			return nil, err
		}
		out = append(out, values...)
		values, err = f.side(t, f.not, or)
		if err != nil {
			return nil, err
		}
		for _, m := range values {
			out = append(out, not(m))
		}
	}
	return out, nil
}

// side is one matcher for the values of one side, or none where there are none left.
func (f *field[M]) side(t *translator, values []string, or func([]M) M) ([]M, error) {
	if len(values) == 0 {
		return nil, nil
	}
	if f.all != nil {
		m, err := f.all(values)
		if err != nil {
			return nil, t.drop(f.path, err)
		}
		return []M{m}, nil
	}
	var list []M
	for _, v := range values {
		m, err := f.match(v)
		if err == nil {
			list = append(list, m)
		} else if err := t.drop(f.path, err); err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	return []M{or(list)}, nil
}

// drop records a value that istiod leaves out. The error it returns ends the rule.
func (t *translator) drop(path string, err error) error {
	if errors.As(err, new(refusal)) {
		return fmt.Errorf("%s: %w", path, err)
	}
	if t.allow {
		return t.leaveOut(fmt.Sprintf("%s: %v", path, err))
	}
	t.dropped = append(t.dropped, fmt.Sprintf("%s: %v: the rule holds without it", path, err))
	return nil
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
