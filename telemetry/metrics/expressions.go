package metrics

import (
	"strings"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/cel"
)

// expression is a CEL expression of a policy: the value of labels, or the condition of rules.
type expression struct {
	source    string
	condition bool
	program   *cel.Program
}

// expressions are those of one policy. All are evaluated for each record, once; what comes out is part of the series' key.
type expressions []expression

// holds is the value of a condition that is true.
const holds = "true"

// maxValue bounds the value of an expression, in bytes: a client must not be able to fill the memory with label values of 60 KiB.
// Envoy has no such bound. No name, host or path that makes a useful label is longer.
const maxValue = 256

// add compiles an expression, or finds it again.
func (e *expressions) add(source string, condition bool, env *cel.Env) (index int, unavailable []string, err error) {
	for i, known := range *e {
		if known.source == source && known.condition == condition {
			return i, nil, nil
		}
	}
	program, err := env.Compile(source)
	if err != nil {
		return 0, nil, err
	}
	*e = append(*e, expression{source, condition, program})
	return len(*e) - 1, program.Unavailable(), nil
}

func (e expressions) sources() (out []string) {
	for i := range e {
		out = append(out, e[i].source)
	}
	return out
}

// evaluate returns the values, joined by separators. What fails is "unknown", as in Istio.
func (e expressions) evaluate(r *telemetry.Record) string {
	var stack [256]byte
	out := stack[:0]
	for i := range e {
		if i > 0 {
			out = append(out, separator)
		}
		if e[i].condition {
			if e[i].program.Bool(r) {
				out = append(out, holds...)
			}
			continue
		}
		start := len(out)
		var ok bool
		if out, ok = e[i].program.Append(out, r); !ok {
			out = append(out, unknown...)
		}
		out = out[:start+min(len(out)-start, maxValue)]
		for j := start; j < len(out); j++ {
			if out[j] == separator {
				out[j] = '?'
			}
		}
	}
	return string(out)
}

// separator is a byte that no header and no path has.
const separator = 0

func splitValues(values string) []string {
	return strings.Split(values, string(rune(separator)))
}
