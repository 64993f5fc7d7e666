// Package lint finds mistakes in AuthorizationPolicies: rules that can never matter, rules that say something else than they
// seem to, and rules that the traffic of an ambient mesh passes by.
//
//	set, err := manifest.Load([]string{"policies/"}, manifest.Options{})
//	for _, f := range lint.Check(set, lint.Options{}) {
//		fmt.Println(f)
//	}
//
// Each finding is of one of [Rules], by a name that does not change. What is reported as certain is proved, from the meaning of
// the patterns; what only a search suggests is of severity Info and says so. The more the input has of the mesh around the
// policies (Services, Gateways, Namespaces, workloads, RequestAuthentications, MeshConfig), the more is found.
//
// A policy with the annotation lint.gowaypoint.io/disable: <rule>,<rule> is not reported for these rules.
package lint

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// DisableAnnotation on a policy turns rules off for it: names separated by commas.
const DisableAnnotation = "lint.gowaypoint.io/disable"

// Severity of a finding.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // the policy cannot do what it says
	Warning Severity = "warning" // it most likely does something else than meant
	Info    Severity = "info"    // worth knowing; does not fail a check
)

// Finding is one mistake.
type Finding struct {
	Rule     string         `json:"rule"`
	Severity Severity       `json:"severity"`
	Object   string         `json:"object"` // such as AuthorizationPolicy shop/readers
	Place    manifest.Place `json:"place"`
	Field    string         `json:"field,omitempty"` // such as spec.rules[0].to[0].operation.paths[1]
	Text     string         `json:"text"`            // what is wrong and what comes of it
	Fix      string         `json:"fix"`             // what to write instead
}

// String is the finding on two lines.
func (f Finding) String() string {
	at := f.Object
	if f.Field != "" {
		at += " " + f.Field
	}
	return fmt.Sprintf("%s: %s: %s [%s]\n    %s\n    fix: %s", f.Place, f.Severity, at, f.Rule, f.Text, f.Fix)
}

// Options of Check.
type Options struct {
	// Disabled rules are not looked for.
	Disabled []string
}

// Rule is a kind of mistake.
type Rule struct {
	ID       string
	Severity Severity
	Summary  string
}

// Check looks at all policies of a set. The findings are in the order of the input.
func Check(set *manifest.Set, o Options) []Finding {
	l := newLinter(set, o)
	l.values()
	l.structure()
	l.reach()
	l.mesh()
	l.tokens()
	l.invalid()
	out := l.findings
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Place.File, b.Place.File), cmp.Compare(a.Place.Line, b.Place.Line))
	})
	return out
}

// Failing counts the findings that are not merely worth knowing.
func Failing(findings []Finding) int {
	n := 0
	for _, f := range findings {
		if f.Severity != Info {
			n++
		}
	}
	return n
}
