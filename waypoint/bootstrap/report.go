package bootstrap

import (
	"fmt"
	"slices"
	"strings"
)

// Report names a setting that does not do what it does under Istio's agent and Envoy.
type Report struct {
	Field string // "env NAME", "flag --name", "annotation name", "ProxyConfig.path", "label name"
	Value string // as set; long values are cut
	Why   string
	// Loud asks for a warning instead of an informational line: traffic, policy or secrets are affected.
	Loud bool
}

func (r Report) String() string {
	level := "info"
	if r.Loud {
		level = "warning"
	}
	return fmt.Sprintf("%s: %s=%s: %s", level, r.Field, r.Value, r.Why)
}

type reports struct{ list []Report }

func (r *reports) add(loud bool, field, value, why string) {
	const most = 120
	if len(value) > most {
		value = value[:most] + "…"
	}
	r.list = append(r.list, Report{Field: field, Value: value, Why: why, Loud: loud})
}

func (r *reports) sorted() []Report {
	slices.SortStableFunc(r.list, func(a, b Report) int { return strings.Compare(a.Field, b.Field) })
	return r.list
}
