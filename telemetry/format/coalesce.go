package format

import (
	"encoding/json"
	"errors"
	"fmt"
)

// coalesce is %COALESCE({"operators":[…]})%: the first of several operators that has a value which is not empty.
func coalesce(p part, o Options) (operator, error) {
	var config struct {
		Operators []json.RawMessage `json:"operators"`
	}
	if err := json.Unmarshal([]byte(p.arg), &config); err != nil {
		return nil, fmt.Errorf(`argument: wanted {"operators":[…]}: %w`, err)
	}
	if len(config.Operators) == 0 {
		return nil, errors.New(`argument: "operators" is empty`)
	}
	var list []operator
	for i, raw := range config.Operators {
		inner, err := coalescePart(raw)
		if err == nil {
			var op built
			if op, err = build(inner, o); err == nil {
				list = append(list, op.text)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("operators[%d]: %w", i, err)
		}
	}
	return func(dst []byte, r *record) ([]byte, kind) {
		start := len(dst)
		for _, op := range list {
			out, k := op(dst, r)
			if k != absent && len(out) > start {
				return out, k
			}
			dst = out[:start]
		}
		return dst, absent
	}, nil
}

// coalescePart reads one operator: a name, or an object with command, param and max_length.
func coalescePart(raw json.RawMessage) (part, error) {
	p := part{max: -1}
	if json.Unmarshal(raw, &p.command) == nil {
		p.text = p.command
		return p, nil
	}
	var long struct {
		Command   string  `json:"command"`
		Param     *string `json:"param"`
		MaxLength *int    `json:"max_length"`
	}
	if err := json.Unmarshal(raw, &long); err != nil {
		return p, err
	}
	if long.Command == "" {
		return p, errors.New(`"command" is missing`)
	}
	p.command, p.text = long.Command, long.Command
	if long.Param != nil {
		p.arg, p.hasArg = *long.Param, true
	}
	if long.MaxLength != nil {
		p.max = max(*long.MaxLength, 0)
	}
	return p, nil
}
