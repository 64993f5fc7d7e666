package rbac

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/authz"
)

// Compile makes a PolicySet of RBAC rules. Rules without policies are a set that denies everything (ALLOW) or nothing
// (DENY, LOG). Nil rules, which mean that nothing is enforced, give a nil set.
//
// audit_logging_options change no verdict; [AuditOf] has them.
//
// An error names the policy and the field; then the caller must refuse the traffic.
func Compile(rules *rbacv3.RBAC) (*authz.PolicySet, error) {
	if rules == nil {
		return nil, nil
	}
	if !surelyValid(rules) {
		if err := validate(rules); err != nil {
			return nil, err
		}
	}
	t, err := translate(rules, http)
	if err != nil {
		return nil, err
	}
	return t.compile()
}

// layer is what a filter works on. Envoy refuses header rules in the network filter, which sees none.
type layer uint8

const (
	http layer = iota
	network
)

// validate refuses what the API's own constraints forbid, which Envoy refuses too, and fields that this build does not
// know.
func validate(m interface {
	proto.Message
	Validate() error
}) error {
	// Side by side: of a large set, each of the two takes about as long as translating it.
	unknown := make(chan error, 1)
	go func() { unknown <- refuseUnknownFields(m) }()
	if err := m.Validate(); err != nil {
		return err
	}
	return <-unknown
}

// translation is what a set of rules, or a matcher tree, says in the terms of package authz.
type translation struct {
	action   authz.Action
	policies []authz.Policy
	audit    *Audit

	// A matcher tree has these in place of the three above.
	tree  bool
	rules []authz.Rule
	logs  bool // one of the rules logs
}

func (t *translation) compile() (*authz.PolicySet, error) {
	if t.tree {
		return authz.CompileOrdered(t.rules)
	}
	return authz.Compile(t.action, t.policies)
}

// names are those that a decision may have. The denial of a tree where Envoy can't go on has none.
func (t *translation) names() []string {
	var names []string
	for i := range t.policies {
		names = append(names, t.policies[i].Name)
	}
	for i := range t.rules {
		if name := t.rules[i].Policy.Name; name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func translate(rules *rbacv3.RBAC, l layer) (*translation, error) {
	action, err := actionOf(rules.GetAction())
	if err != nil {
		return nil, at("action", err)
	}
	t := &translation{action: action}
	if t.audit, err = audit(rules.GetAuditLoggingOptions()); err != nil {
		return nil, at("audit_logging_options", err)
	}
	names := slices.Sorted(maps.Keys(rules.GetPolicies())) // sorted, so that of several errors it is always the same
	t.policies = make([]authz.Policy, len(names))
	err = inParts(len(names), func(from, to int) error {
		for i := from; i < to; i++ {
			p, err := compilePolicy(rules.GetPolicies()[names[i]], l)
			if err != nil {
				return fmt.Errorf("policy %q: %w", names[i], err)
			}
			p.Name = names[i]
			t.policies[i] = p
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// inParts does n things on all processors, if there are many, and returns the first error in their order.
func inParts(n int, do func(from, to int) error) error {
	const many = 1_000
	if n < many {
		return do(0, n)
	}
	parts := runtime.GOMAXPROCS(0)
	errs := make([]error, parts)
	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() { errs[i] = do(i*n/parts, (i+1)*n/parts) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func actionOf(a rbacv3.RBAC_Action) (authz.Action, error) {
	switch a {
	case rbacv3.RBAC_ALLOW:
		return authz.Allow, nil
	case rbacv3.RBAC_DENY:
		return authz.Deny, nil
	case rbacv3.RBAC_LOG:
		return authz.Log, nil
	}
	return 0, fmt.Errorf("unknown value %d", a)
}

func compilePolicy(p *rbacv3.Policy, l layer) (authz.Policy, error) {
	switch {
	case p.GetCondition() != nil:
		return authz.Policy{}, notSupported("condition", "CEL")
	case p.GetCheckedCondition() != nil:
		return authz.Policy{}, notSupported("checked_condition", "CEL")
	case p.GetCelConfig() != nil:
		return authz.Policy{}, notSupported("cel_config", "CEL")
	}
	permissions, err := each("permissions", p.GetPermissions(), l, permission)
	if err != nil {
		return authz.Policy{}, err
	}
	principals, err := each("principals", p.GetPrincipals(), l, principal)
	return authz.Policy{Permissions: permissions, Principals: principals}, err
}

// each compiles a list, and says in an error which element it is about.
func each[M any](field string, list []M, l layer, compile func(M, layer) (authz.Clause, error)) ([]authz.Clause, error) {
	clauses := make([]authz.Clause, 0, len(list))
	for i, m := range list {
		c, err := compile(m, l)
		if err != nil {
			return nil, at(fmt.Sprintf("%s[%d]", field, i), err)
		}
		clauses = append(clauses, c)
	}
	return clauses, nil
}

// fieldError says where in a message an error is, with the path growing from the inside out.
type fieldError struct {
	path string
	err  error
}

func (e *fieldError) Error() string { return e.path + ": " + e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }

// at puts a field before the path of an error; nil stays nil.
func at(field string, err error) error {
	if err == nil {
		return nil
	}
	if inner, ok := err.(*fieldError); ok { //nolint:errorlint // a path wrapped in other words has ended
		return &fieldError{field + "." + inner.path, inner.err}
	}
	return &fieldError{field, err}
}

// errNotSupported is in every error about a field that is known but not implemented.
var errNotSupported = errors.New("not supported")

func notSupported(field, hint string) error {
	return at(field, fmt.Errorf("%w (%s)", errNotSupported, hint))
}
