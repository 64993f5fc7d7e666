package authzcmd

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// enforcement is who enforces a policy, and what is likely not meant.
type enforcement struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	File      string     `json:"file,omitempty"`
	Line      int        `json:"line,omitempty"`
	By        []enforcer `json:"by"` // empty: nobody
	// Unknown is what the answer depends on and the input does not have.
	Unknown []string `json:"unknown,omitempty"`
	Traps   []trap   `json:"traps,omitempty"`
}

type enforcer struct {
	Kind   string `json:"kind"`   // waypoint, ztunnel, sidecar or gateway
	Name   string `json:"name"`   // of the gateway, or of the workload whose ztunnel or sidecar it is
	Guards string `json:"guards"` // what is protected
	HTTP   bool   `json:"http"`   // it sees HTTP attributes
}

type trap struct {
	ID    string `json:"id"`
	Field string `json:"field,omitempty"`
	Line  int    `json:"line,omitempty"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"`
}

// enforcements asks for some policies of the input who enforces them.
func (s *subject) enforcements(which func(*manifest.Policy) bool) []enforcement {
	mesh := s.set.Mesh
	mesh.Policies = s.set.IstioPolicies()
	if s.target != nil {
		mesh.Version = s.target.Version
	}
	var out []enforcement
	for i := range s.set.Policies {
		p := &s.set.Policies[i]
		if !which(p) {
			continue
		}
		place := p.At("")
		one := enforcement{Namespace: p.Namespace, Name: p.Name, File: place.File, Line: place.Line, By: []enforcer{}}
		e := mesh.WhoEnforces(&p.Policy)
		for _, by := range e.By {
			one.By = append(one.By, enforcer{by.Enforcer.String(), by.Name.String(), by.Guards.String(), by.L7})
		}
		for _, o := range e.Unknown {
			one.Unknown = append(one.Unknown, unknownName(o))
		}
		for _, t := range e.Traps {
			line := place.Line
			if t.Field != "" {
				line = p.At("spec." + t.Field).Line
			}
			one.Traps = append(one.Traps, trap{t.ID, t.Field, line, t.Text, t.Fix})
		}
		out = append(out, one)
	}
	return out
}

// unknownName is an object, or the workloads of a namespace.
func unknownName(o istio.Object) string {
	switch {
	case o.Name == "" && o.Namespace == "":
		return "the workloads of the mesh"
	case o.Name == "":
		return "the workloads of namespace " + o.Namespace
	}
	return o.String()
}

// writeEnforcement says who enforces the policies, save for those that have nothing to do with the target and are in order.
func writeEnforcement(w io.Writer, r *result) {
	elsewhere := func(e *enforcement) bool {
		return len(e.Traps) == 0 && slices.ContainsFunc(r.NotEnforced, func(n skipped) bool {
			return n.Namespace == e.Namespace && n.Name == e.Name && n.Why == otherTargets
		})
	}
	title := "\nWho enforces what\n"
	open := openQuestions{}
	for i := range r.Enforcement {
		e := &r.Enforcement[i]
		if elsewhere(e) || open.take(e) {
			continue
		}
		fmt.Fprintf(w, "%s  %s/%s (%s): %s\n", title, e.Namespace, e.Name, manifest.Place{File: e.File, Line: e.Line}, e.who())
		title = ""
		for _, t := range e.Traps {
			fmt.Fprintf(w, "    ! %s", t.Text)
			if t.Field != "" {
				fmt.Fprintf(w, "   [%s, line %d]", t.Field, t.Line)
			}
			fmt.Fprintln(w)
			if t.Fix != "" {
				fmt.Fprintf(w, "      %s\n", t.Fix)
			}
		}
	}
	open.write(w, title)
}

// openQuestions are the policies of which nothing is known, by what is missing: in a large set that is often the same for all.
type openQuestions struct {
	why   []string
	names map[string][]string
}

// take keeps a policy of which only is known what is missing.
func (q *openQuestions) take(e *enforcement) bool {
	if len(e.By) > 0 || len(e.Traps) > 0 || len(e.Unknown) == 0 {
		return false
	}
	if q.names == nil {
		q.names = map[string][]string{}
	}
	why := e.who()
	if q.names[why] == nil {
		q.why = append(q.why, why)
	}
	q.names[why] = append(q.names[why], e.Namespace+"/"+e.Name)
	return true
}

// write has a line for each thing that is missing, with a few of the policies.
func (q *openQuestions) write(w io.Writer, title string) {
	for _, why := range q.why {
		names := q.names[why]
		if more := len(names) - listed; more > 1 {
			names = append(names[:listed:listed], fmt.Sprintf("and %d more", more))
		}
		fmt.Fprintf(w, "%s  %s: %s\n", title, strings.Join(names, ", "), why)
		title = ""
	}
}

// listed is how many policies are named where all share what is said of them: enough to recognise which are meant.
const listed = 5

// who is a sentence.
func (e *enforcement) who() string {
	var parts []string
	for _, by := range e.By {
		text := by.Kind + " of " + by.Name
		if by.Kind == "waypoint" || by.Kind == "gateway" {
			text = by.Kind + " " + strings.TrimPrefix(by.Name, "Gateway ")
		}
		if by.Guards != by.Name {
			text += " for " + by.Guards
		}
		if !by.HTTP {
			text += " (without HTTP attributes)"
		}
		parts = append(parts, text)
	}
	switch {
	case len(parts) > 0 && len(e.Unknown) > 0:
		return strings.Join(parts, "; ") + "; more may follow from " + strings.Join(e.Unknown, ", ") + ", not in the input"
	case len(parts) > 0:
		return strings.Join(parts, "; ")
	case len(e.Unknown) > 0:
		return "not known: the input does not have " + strings.Join(e.Unknown, ", ")
	}
	return "nobody"
}

// otherTargets is the reason of istio.Skipped for a policy that is attached to something else.
const otherTargets = "targets other objects"
