package cel

import (
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// Program is a compiled expression. It is immutable and may be used by any number of goroutines.
type Program struct {
	env         *Env
	plan        interpreter.Interpretable
	unavailable []string
}

// Unavailable are the attributes in the expression that no record ever has, such as "request.hots" or "upstream.num_endpoints":
// what depends on them fails each time. They are to be reported, not refused, since Envoy takes them too.
func (p *Program) Unavailable() []string { return p.unavailable }

// Bool is whether the expression is true. An error, or a value that is no bool, is false.
func (p *Program) Bool(r *telemetry.Record) bool {
	return p.eval(r) == types.True
}

// Append adds the value as Envoy prints it. ok is false, and nothing is added, if there is none.
func (p *Program) Append(dst []byte, r *telemetry.Record) (out []byte, ok bool) {
	v := p.eval(r)
	if v == nil {
		return dst, false
	}
	return appendValue(dst, v), true
}

// AppendJSON adds the value as JSON: numbers, bools, maps and lists keep their type, anything else is text. ok is false, and
// nothing is added, if there is none. text tells that what was added is the inside of a JSON string, not yet escaped.
func (p *Program) AppendJSON(dst []byte, r *telemetry.Record) (out []byte, text, ok bool) {
	v := p.eval(r)
	if v == nil {
		return dst, false, false
	}
	out, text = appendJSON(dst, v)
	return out, text, true
}

// Text is Append as a string.
func (p *Program) Text(r *telemetry.Record) (string, bool) {
	var buf [64]byte
	out, ok := p.Append(buf[:0], r)
	return string(out), ok
}

// eval is nil for an error.
func (p *Program) eval(r *telemetry.Record) (v ref.Val) {
	defer func() { // cel-go panics where it meets a state that it does not expect; an expression must not end the process
		if recover() != nil {
			v = nil
		}
	}()
	v = p.plan.Eval(&activation{p.env, r})
	if types.IsUnknownOrError(v) {
		return nil
	}
	return v
}
