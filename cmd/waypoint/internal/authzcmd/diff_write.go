package authzcmd

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

func (r *diffRun) write(w io.Writer, found []*difference) {
	changes, requests, truncated := 0, 0, false
	edits := map[string]bool{} // whether it has an effect, for any target
	var order []string
	for _, d := range found {
		if len(d.Changes) > 0 {
			fmt.Fprintf(w, "%s, %s\n", strings.Join(d.Targets, " and "), d.Protocol)
		}
		for i, c := range d.Changes {
			fmt.Fprintf(w, "  %s -> %s  %s -> %s: %s\n", c.Before.Word, c.After.Word, c.Before.By, c.After.By, &c.Witness)
			fmt.Fprintf(w, "    %s\n", d.Commands[i])
		}
		for _, e := range d.Edits {
			what := fmt.Sprintf("%s/%s was %s", e.Namespace, e.Name, e.What)
			if _, known := edits[what]; !known {
				order = append(order, what)
			}
			edits[what] = edits[what] || e.Effect
		}
		changes, requests, truncated = changes+len(d.Changes), requests+d.Coverage.Requests, truncated || d.Coverage.Truncated
	}
	for _, what := range order {
		if edits[what] {
			fmt.Fprintln(w, what)
		} else {
			fmt.Fprintf(w, "%s; no verdict was found that changes by it\n", what)
		}
	}
	notCompared := r.notCompared()
	for _, what := range notCompared {
		fmt.Fprintln(w, what)
	}
	switch {
	case requests == 0 && len(notCompared) > 0:
		fmt.Fprintln(w, "no other change: the policies of waypoints are the same")
		return
	case requests == 0:
		fmt.Fprintln(w, "no change: the policies are the same")
		return
	case changes == 0:
		fmt.Fprint(w, "no change of verdict was found")
	case changes == 1:
		fmt.Fprint(w, "1 change of verdict")
	default:
		fmt.Fprintf(w, "%d changes of verdict", changes)
	}
	fmt.Fprintf(w, "; %d requests made from the constants of both sets were tried: a search, not a proof\n", requests)
	if truncated {
		fmt.Fprintln(w, "not everything was tried; --limit sets how much")
	}
}

// notCompared says what has changed and cannot show in a waypoint's verdicts: policies that others enforce, and the keys and
// issuers of tokens.
func (r *diffRun) notCompared() []string {
	type object struct {
		name string
		spec proto.Message
		mine bool // a waypoint may enforce it
	}
	var sides [2][]object
	for i, set := range r.sets {
		for j := range set.Policies {
			p := &set.Policies[j]
			sides[i] = append(sides[i], object{"AuthorizationPolicy " + p.Namespace + "/" + p.Name, p.Spec, len(manifest.Refs(&p.Policy)) > 0})
		}
		for j := range set.Authentications {
			a := &set.Authentications[j]
			sides[i] = append(sides[i], object{"RequestAuthentication " + a.Namespace + "/" + a.Name, a.Spec, false})
		}
	}
	find := func(list []object, name string) int {
		return slices.IndexFunc(list, func(o object) bool { return o.name == name })
	}
	out := []string{}
	say := func(o object, what string) {
		why := "it has no targetRefs, so no waypoint enforces it"
		if strings.HasPrefix(o.name, "RequestAuthentication") {
			why = "which tokens are accepted is not looked at"
		}
		out = append(out, fmt.Sprintf("%s was %s; not compared: %s", o.name, what, why))
	}
	for _, o := range sides[0] {
		switch i := find(sides[1], o.name); {
		case i < 0 && !o.mine:
			say(o, "removed")
		case i >= 0 && !o.mine && !sides[1][i].mine && !proto.Equal(o.spec, sides[1][i].spec):
			say(o, "changed")
		}
	}
	for _, o := range sides[1] {
		if !o.mine && find(sides[0], o.name) < 0 {
			say(o, "added")
		}
	}
	return out
}
