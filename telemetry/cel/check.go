package cel

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/stdlib"
	"github.com/google/cel-go/common/types"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// check walks an expression. It returns the attributes in it that no record has. The error names a function that nobody knows:
// the planner would only find out at run time.
func check(e ast.Expr) (unavailable []string, err error) {
	c := checker{}
	c.walk(e, nil)
	return c.unavailable, c.err
}

type checker struct {
	unavailable []string
	err         error
}

func (c *checker) report(name string) {
	if !slices.Contains(c.unavailable, name) {
		c.unavailable = append(c.unavailable, name)
	}
}

// walk goes through e; locals are the variables of the comprehensions around it.
func (c *checker) walk(e ast.Expr, locals []string) {
	if e == nil || e.Kind() == ast.UnspecifiedExprKind {
		return
	}
	switch e.Kind() {
	case ast.IdentKind:
		name := e.AsIdent()
		if !slices.Contains(locals, name) && !isVariable(name) && !isType(name) {
			c.report(name)
		}
	case ast.SelectKind:
		s := e.AsSelect()
		if !c.attribute(s.Operand(), s.FieldName(), locals) {
			c.walk(s.Operand(), locals)
		}
	case ast.CallKind:
		call := e.AsCall()
		if !isFunction(call.FunctionName()) && c.err == nil {
			c.err = fmt.Errorf("the function %q is not known", call.FunctionName())
		}
		if call.FunctionName() == operators.Index && len(call.Args()) == 2 && call.Args()[1].Kind() == ast.LiteralKind {
			if name, ok := call.Args()[1].AsLiteral().(types.String); ok && c.attribute(call.Args()[0], string(name), locals) {
				return
			}
		}
		if call.IsMemberFunction() {
			c.walk(call.Target(), locals)
		}
		for _, a := range call.Args() {
			c.walk(a, locals)
		}
	case ast.ListKind:
		for _, v := range e.AsList().Elements() {
			c.walk(v, locals)
		}
	case ast.MapKind:
		for _, v := range e.AsMap().Entries() {
			c.walk(v.AsMapEntry().Key(), locals)
			c.walk(v.AsMapEntry().Value(), locals)
		}
	case ast.StructKind:
		if c.err == nil {
			c.err = fmt.Errorf("messages such as %q cannot be made here", e.AsStruct().TypeName())
		}
	case ast.ComprehensionKind:
		f := e.AsComprehension()
		c.walk(f.IterRange(), locals)
		c.walk(f.AccuInit(), locals)
		if len(locals) > 0 && c.err == nil {
			// Its time would grow with the square of what a client sends. Envoy's access log has no macros at all.
			c.err = errors.New("a macro (all, exists, map, filter) inside another one is not supported")
		}
		inner := []string{f.IterVar(), f.AccuVar(), f.IterVar2()}
		c.walk(f.LoopCondition(), inner)
		c.walk(f.LoopStep(), inner)
		c.walk(f.Result(), inner)
	}
}

// attribute reports operand.name if it is an attribute that no record has. It is true if operand is a variable of ours.
func (c *checker) attribute(operand ast.Expr, name string, locals []string) bool {
	if operand.Kind() != ast.IdentKind || slices.Contains(locals, operand.AsIdent()) {
		return false
	}
	variable := operand.AsIdent()
	get := attributes(variable)
	if get == nil {
		return false
	}
	if _, known := get(&activation{env: &Env{}, r: &telemetry.Record{}}, name); !known {
		c.report(variable + "." + name)
	}
	return true
}

func isType(name string) bool {
	for _, t := range stdlib.Types() {
		if t.Name() == name {
			return true
		}
	}
	return false
}

// isFunction knows the functions of the standard library, and the operators that the planner handles itself.
func isFunction(name string) bool {
	switch name {
	case operators.LogicalAnd, operators.LogicalOr, operators.Conditional, operators.Equals, operators.NotEquals, operators.Index,
		operators.NotStrictlyFalse, operators.In:
		return true
	}
	for _, f := range stdlib.Functions() {
		if f.Name() == name {
			return true
		}
	}
	return false
}
