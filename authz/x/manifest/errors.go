package manifest

import (
	"fmt"
	"strings"
)

// Place is where something stands in the input.
type Place struct {
	File     string `json:"file"`
	Document int    `json:"document"` // from 1, within the file
	Line     int    `json:"line"`     // from 1, within the file; 0 is unknown
}

// String is in the form that editors understand, policies.yaml:12.
func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Error is one thing that is wrong with the input.
type Error struct {
	Place
	Object  string `json:"object,omitempty"` // such as "AuthorizationPolicy default/allow-get"
	Field   string `json:"field,omitempty"`  // such as "spec.rules[0].to[1].operation.paths[0]"
	Problem string `json:"problem"`
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Place.String() + ": ")
	if e.Document > 0 {
		fmt.Fprintf(&b, "document %d", e.Document)
		if e.Object != "" {
			b.WriteString(", " + e.Object)
		}
		b.WriteString(": ")
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Problem)
	return b.String()
}

// Errors is everything that is wrong with the input, in its order. It has at least one element.
type Errors []*Error

// Error has a line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is and errors.As see each of them.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}
