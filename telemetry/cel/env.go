package cel

import (
	"fmt"
	"strings"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/containers"
	"github.com/google/cel-go/common/stdlib"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/interpreter"
	"github.com/google/cel-go/parser"
)

// Env compiles expressions. Its methods may be called from any goroutine. The zero value is usable and knows no node.
type Env struct {
	node *corev3.Node

	mu      sync.Mutex
	parser  *parser.Parser
	interp  interpreter.Interpreter
	nodeVal mapping
}

// NewEnv returns an environment in which xds.node is the given one.
func NewEnv(node *corev3.Node) *Env { return &Env{node: node} }

// maxExpression bounds an expression, in code points: a hundred times what people write, and a compile time of milliseconds.
const maxExpression = 16 << 10

// start makes what all expressions share. It is only called when there is one.
func (e *Env) start() error {
	if e.interp != nil {
		return nil
	}
	p, err := parser.NewParser(parser.Macros(parser.AllMacros...), parser.ExpressionSizeCodePointLimit(maxExpression))
	if err != nil {
		return err
	}
	registry, err := types.NewRegistry()
	if err != nil {
		return err
	}
	d := interpreter.NewDispatcher()
	for _, f := range stdlib.Functions() {
		bindings, err := f.Bindings()
		if err != nil {
			return err
		}
		if err := d.Add(bindings...); err != nil {
			return err
		}
	}
	attributes := interpreter.NewAttributeFactory(containers.DefaultContainer, registry, registry)
	e.parser = p
	e.nodeVal = nodeObject(e.node)
	e.interp = interpreter.NewInterpreter(d, containers.DefaultContainer, registry, registry, attributes)
	return nil
}

// Compile parses and plans an expression. The error says where it is malformed, or which function nobody knows.
func (e *Env) Compile(expression string) (p *Program, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer func() { // as in eval; constants are evaluated here
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("CEL expression %q: %v", expression, r)
		}
	}()
	if err := e.start(); err != nil {
		return nil, fmt.Errorf("CEL: %w", err)
	}
	parsed, issues := e.parser.Parse(common.NewTextSource(expression))
	if list := issues.GetErrors(); len(list) > 0 {
		first := list[0]
		return nil, fmt.Errorf("CEL expression %q, column %d: %s", expression, first.Location.Column()+1, strings.TrimPrefix(first.Message, "Syntax error: "))
	}
	names, err := check(parsed.Expr())
	if err != nil {
		return nil, fmt.Errorf("CEL expression %q: %w", expression, err)
	}
	plan, err := e.interp.NewInterpretable(parsed, interpreter.Optimize(), interpreter.CompileRegexConstants(interpreter.MatchesRegexOptimization))
	if err != nil {
		return nil, fmt.Errorf("CEL expression %q: %w", expression, err)
	}
	return &Program{env: e, plan: plan, unavailable: names}, nil
}
