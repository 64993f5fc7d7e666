package format

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/cel"
)

// kind says what an operator has appended.
type kind uint8

const (
	absent  kind = iota // nothing: the value is not there
	text                // text, to be quoted in JSON
	literal             // a JSON value already: a number, a struct
)

// operator appends one value of a record to dst.
type operator func(dst []byte, r *telemetry.Record) ([]byte, kind)

// Options are what formats take from the process. The zero value is usable.
type Options struct {
	// Env looks up %ENVIRONMENT(X)%. nil: every variable is absent.
	Env func(name string) (string, bool)
	// Hostname is what %HOSTNAME% prints. Empty: absent.
	Hostname string
	// CEL compiles %CEL(…)%. nil: an environment of the format's own, which knows no node.
	CEL *cel.Env
	// Report, if set, is told of each operator that Envoy knows and that has no value here, in a note that names it; such an
	// operator is then absent in the output. If nil it is an error, like an operator that nobody knows. Access logs set it: a
	// column that is empty, and reported, is better than a listener that is refused.
	Report func(note string)
	// OmitEmpty prints nothing instead of "-" for an absent value (SubstitutionFormatString.omit_empty_values).
	OmitEmpty bool
}

// Format is a compiled format string. It is immutable and may be used by any number of goroutines.
type Format struct {
	ops       []operator
	json      operator // of a format that is one operator: its value in JSON
	constant  string   // the whole text, if there is no operator in it
	isConst   bool
	omitEmpty bool
}

// Compile translates a format string. The error names the operator that is unknown or malformed.
func Compile(s string, o Options) (*Format, error) {
	parts, err := parse(s)
	if err != nil {
		return nil, err
	}
	f := &Format{omitEmpty: o.OmitEmpty}
	for _, p := range parts {
		if p.command == "" {
			f.ops = append(f.ops, constant(p.text))
			continue
		}
		op, err := build(p, o)
		if err != nil {
			return nil, fmt.Errorf("operator %%%s%%: %w", p.text, err)
		}
		f.ops, f.json = append(f.ops, op.text), op.json
	}
	switch {
	case len(parts) == 0:
		f.isConst = true
	case len(parts) == 1 && parts[0].command == "":
		f.isConst, f.constant = true, parts[0].text
	}
	return f, nil
}

// Constant is the text of a format without operators; ok is false when there are any.
func (f *Format) Constant() (s string, ok bool) { return f.constant, f.isConst }

// Append adds the line to dst. Absent values print as "-", or as nothing with OmitEmpty.
func (f *Format) Append(dst []byte, r *telemetry.Record) []byte {
	for _, op := range f.ops {
		var k kind
		if dst, k = op(dst, r); k == absent && !f.omitEmpty {
			dst = append(dst, '-')
		}
	}
	return dst
}

// Value is the text, and whether any operator had a value: header values and span tags that consist only of absent values
// are left out rather than set to "-". A constant always has one. Absent parts beside present ones print as Append does;
// header values and span tags are compiled with OmitEmpty, as in Envoy.
func (f *Format) Value(r *telemetry.Record) (s string, ok bool) {
	if f.isConst {
		return f.constant, true
	}
	var buf [128]byte
	dst, found, operators := buf[:0], false, len(f.ops)
	for _, op := range f.ops {
		var k kind
		dst, k = op(dst, r)
		if k != absent {
			found = true
		} else if !f.omitEmpty && operators > 1 {
			dst = append(dst, '-')
		}
	}
	if !found {
		return "", false
	}
	return string(dst), true
}

// appendJSON adds the format's value as a JSON value and tells whether it was there.
func (f *Format) appendJSON(dst []byte, r *telemetry.Record) ([]byte, bool) {
	if len(f.ops) == 1 && !f.isConst {
		start := len(dst)
		dst = append(dst, '"')
		var k kind
		switch dst, k = f.json(dst, r); k {
		case absent:
			return append(dst[:start], "null"...), false
		case literal:
			copy(dst[start:], dst[start+1:])
			return dst[:len(dst)-1], true
		default:
			return append(escape(dst, start+1), '"'), true
		}
	}
	dst = append(dst, '"')
	start := len(dst)
	dst = f.Append(dst, r)
	return append(escape(dst, start), '"'), true
}

func constant(s string) operator {
	return func(dst []byte, _ *telemetry.Record) ([]byte, kind) { return append(dst, s...), text }
}

// part is a piece of a format string: either plain text, or a command with its argument.
type part struct {
	text    string // plain text; for a command, its source without the percent signs
	command string
	arg     string
	hasArg  bool
	max     int // :LENGTH, or -1
}

// parse splits a format string. It follows Envoy's grammar, %COMMAND(ARGUMENT):LENGTH%, where ARGUMENT ends at the first
// ")" that is followed by the rest of a command; so START_TIME may have percent signs in its argument.
func parse(s string) ([]part, error) {
	var parts []part
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			parts = append(parts, part{text: plain.String()})
			plain.Reset()
		}
	}
	for i := 0; i < len(s); {
		if s[i] != '%' {
			plain.WriteByte(s[i])
			i++
			continue
		}
		if i+1 < len(s) && s[i+1] == '%' {
			plain.WriteByte('%')
			i += 2
			continue
		}
		p, n := parseCommand(s[i+1:])
		if n == 0 {
			return nil, fmt.Errorf("format %q: no operator at position %d (wanted %%NAME%%, %%NAME(ARGUMENT)%% or %%NAME(ARGUMENT):LENGTH%%; write %%%% for a percent sign)", s, i)
		}
		flush()
		parts = append(parts, p)
		i += 1 + n
	}
	flush()
	return parts, nil
}

// parseCommand reads a command behind its first percent sign, and returns the length read including the closing one; 0 if
// there is none.
func parseCommand(s string) (part, int) {
	n := 0
	for n < len(s) && (s[n] >= 'A' && s[n] <= 'Z' || s[n] >= '0' && s[n] <= '9' || s[n] == '_') {
		n++
	}
	if n == 0 {
		return part{}, 0
	}
	if n < len(s) && s[n] == '(' {
		for end := n + 1; end < len(s); end++ {
			if s[end] != ')' {
				continue
			}
			if length, m := parseTail(s[end+1:]); m > 0 {
				total := end + 1 + m
				return part{text: s[:total-1], command: s[:n], arg: s[n+1 : end], hasArg: true, max: length}, total
			}
		}
		return part{}, 0
	}
	length, m := parseTail(s[n:])
	if m == 0 {
		return part{}, 0
	}
	return part{text: s[:n+m-1], command: s[:n], max: length}, n + m
}

// parseTail reads "%" or ":123%".
func parseTail(s string) (length, n int) {
	if strings.HasPrefix(s, "%") {
		return -1, 1
	}
	if !strings.HasPrefix(s, ":") {
		return 0, 0
	}
	end := strings.IndexByte(s, '%')
	if end < 0 {
		return 0, 0
	}
	v, err := strconv.ParseUint(s[1:end], 10, 31)
	if err != nil {
		return 0, 0
	}
	return int(v), end + 1
}
