package format

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gowaypoint/gowaypoint/telemetry/cel"
)

// celOperator is %CEL(expression)%, and %TYPED_CEL(expression)% whose JSON keeps the value's type. %CEL% is text in JSON, too.
func celOperator(p part, o Options, typed bool) (operator, error) {
	if strings.TrimSpace(p.arg) == "" {
		return nil, errors.New("needs an expression in parentheses")
	}
	env := o.CEL
	if env == nil {
		env = cel.NewEnv(nil)
	}
	program, err := env.Compile(p.arg)
	if err != nil {
		if o.Report == nil {
			return nil, err
		}
		o.Report("%" + p.command + "% prints nothing: " + err.Error())
		return nothing, nil
	}
	for _, name := range program.Unavailable() {
		if o.Report == nil {
			return nil, fmt.Errorf("%q: the attribute %s is not known", p.arg, name)
		}
		o.Report(fmt.Sprintf("%%%s%%: the attribute %s is not known and is never there", p.command, name))
	}
	return func(dst []byte, r *record) ([]byte, kind) {
		if !typed {
			if out, ok := program.Append(dst, r); ok {
				return out, text
			}
			return dst, absent
		}
		out, isText, ok := program.AppendJSON(dst, r)
		switch {
		case !ok:
			return dst, absent
		case isText:
			return out, text
		}
		return out, literal
	}, nil
}
