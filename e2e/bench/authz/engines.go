package authzbench

import (
	"context"
	"fmt"
	"strings"

	"github.com/cedar-policy/cedar-go"
	cedartypes "github.com/cedar-policy/cedar-go/types"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/rbac"
)

// Decider answers one request. What it needs of the request in a form of its own it makes of it in Decide, as a proxy would have to.
type Decider interface {
	Decide(r Request) (allowed bool, err error)
}

// Engines make a Decider of a set of rules, by name.
var Engines = map[string]func([]Rule) (Decider, error){
	"gowaypoint": newOurs,
	"cedar-go":   newCedar,
	"OPA":        newOPA,
}

// ours is package authz. A waypoint has the request in this form already, and reuses it as is done here.
type ours struct {
	set     *authz.PolicySet
	request authz.Request
	state   principal
}

type principal string

func (p *principal) FilterState(key string) (string, bool) {
	return string(*p), key == authz.PeerPrincipal
}

func newOurs(rules []Rule) (Decider, error) {
	set, err := rbac.Compile(RBAC(rules))
	if err != nil {
		return nil, err
	}
	o := &ours{set: set, request: authz.Request{HTTP: true, Authority: "shop:8080"}}
	o.request.FilterState = &o.state
	return o, nil
}

func (o *ours) Decide(r Request) (bool, error) {
	o.request.Method, o.request.Path, o.state = r.Method, r.Path, principal(r.Principal)
	return o.set.Decide(&o.request).Allowed, nil
}

// cedarEngine is Cedar's Go library, with a policy for each rule.
type cedarEngine struct{ set *cedar.PolicySet }

func newCedar(rules []Rule) (Decider, error) {
	set := cedar.NewPolicySet()
	for _, r := range rules {
		var p cedar.Policy
		text := fmt.Sprintf(`permit (principal == Workload::%q, action == Action::%q, resource) when { context.path like %q };`,
			r.Principal, r.Method, r.Prefix+"*")
		if err := p.UnmarshalCedar([]byte(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
		set.Add(cedar.PolicyID(r.Name), &p)
	}
	return cedarEngine{set}, nil
}

func (c cedarEngine) Decide(r Request) (bool, error) {
	decision, diagnostic := cedar.Authorize(c.set, cedartypes.EntityMap{}, cedar.Request{
		Principal: cedar.NewEntityUID("Workload", cedar.String(r.Principal)),
		Action:    cedar.NewEntityUID("Action", cedar.String(r.Method)),
		Resource:  cedar.NewEntityUID("Service", "shop"),
		Context:   cedar.NewRecord(cedar.RecordMap{"path": cedar.String(r.Path)}),
	})
	if len(diagnostic.Errors) > 0 {
		return false, fmt.Errorf("cedar: %v", diagnostic.Errors[0])
	}
	return bool(decision), nil
}

// opa is Open Policy Agent's Go library, with a Rego rule for each rule. Its compiler indexes them by the values that they compare.
type opa struct{ query rego.PreparedEvalQuery }

func newOPA(rules []Rule) (Decider, error) {
	var module strings.Builder
	module.WriteString("package mesh\n\ndefault allow := false\n")
	for _, r := range rules {
		fmt.Fprintf(&module, "\nallow if {\n\tinput.method == %q\n\tinput.principal == %q\n\tstartswith(input.path, %q)\n}\n", r.Method, r.Principal, r.Prefix)
	}
	query, err := rego.New(rego.Query("data.mesh.allow"), rego.Module("mesh.rego", module.String())).PrepareForEval(context.Background())
	return opa{query}, err
}

func (o opa) Decide(r Request) (bool, error) {
	input := ast.NewObject(
		ast.Item(ast.StringTerm("method"), ast.StringTerm(r.Method)),
		ast.Item(ast.StringTerm("principal"), ast.StringTerm(r.Principal)),
		ast.Item(ast.StringTerm("path"), ast.StringTerm(r.Path)))
	results, err := o.query.Eval(context.Background(), rego.EvalParsedInput(input))
	return results.Allowed(), err
}
