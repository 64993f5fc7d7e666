// Package policydiff compares two sets of policies by what they decide: it asks both of them the same witnesses (package
// witness) and groups the requests whose verdict changes by the policies that decide.
//
//	report, err := policydiff.Compare(old, new, policydiff.Options{Target: target})
//	for _, c := range report.Changes {
//		fmt.Println(c)
//	}
//
// That no change is found is no proof that there is none; [Report.Coverage] says how far the search went.
package policydiff

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/query"
	"github.com/gowaypoint/gowaypoint/authz/x/witness"
)

// Side is one of the two sets.
type Side struct {
	Policies []istio.Policy
	// Target that the policies are compiled for: the same object on both sides, but its waypoint or the trust domains may
	// have changed.
	Target istio.Target
	// Paths is the mesh's normalisation.
	Paths pathnorm.Options
}

// Options of Compare.
type Options struct {
	// Defaults is what a request has where no policy cares; see witness.Options.
	Defaults query.Query
	// Issuers of tokens that are known; see witness.Options.
	Issuers []string
	// Ports that clients can dial; nil: any.
	Ports []uint16
	// Limit bounds the requests; 0 is witness.DefaultLimit.
	Limit int
}

// Report is what changes for one target.
type Report struct {
	Changes []Change `json:"changes"`
	// Edits are the policies that were added, removed or changed and that apply to the target on either side.
	Edits    []Edit           `json:"edits"`
	Coverage witness.Coverage `json:"coverage"`
}

// Change is every request found whose verdict changes from one to another for the same reasons.
type Change struct {
	Before Verdict `json:"before"`
	After  Verdict `json:"after"`
	// Witness is the simplest of the requests.
	Witness query.Query `json:"-"`
	// Flags ask for the witness with waypoint authz check.
	Flags []string `json:"flags"`
	// Requests counts them.
	Requests int `json:"requests"`

	some []query.Query // for asking which edits are at work
}

// Verdict is what one side says.
type Verdict struct {
	// Word is ALLOWED, DENIED, or ASKED when the request passes if an extension provider agrees.
	Word string `json:"verdict"`
	// By says who decided: a policy and rule such as shop/readers rules[0], or in words what did not match.
	By string `json:"by"`
	// Source is the policy's rule; zero when none matched.
	Source authz.Source `json:"source,omitzero"`
}

// The words of verdicts.
const (
	Allowed = "ALLOWED"
	Denied  = "DENIED"
	Asked   = "ASKED"
)

// Edit is a policy that is not the same on both sides.
type Edit struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	What      string `json:"what"` // added, removed or changed
	// Effect tells whether any of the changes would not be there without this edit.
	Effect bool `json:"effect"`
}

func (c Change) String() string {
	return fmt.Sprintf("%s -> %s  %s -> %s: %v", c.Before.Word, c.After.Word, c.Before.By, c.After.By, &c.Witness)
}

// Compare asks both sides. An error is one of compiling policies.
func Compare(before, after Side, o Options) (*Report, error) {
	was, err := newJudge(before)
	if err != nil {
		return nil, fmt.Errorf("before: %w", err)
	}
	is, err := newJudge(after)
	if err != nil {
		return nil, fmt.Errorf("after: %w", err)
	}
	edits, changed := editsOf(was.policies, is.policies)
	report := &Report{Edits: edits}
	if len(edits) == 0 && before.Paths == after.Paths && reflect.DeepEqual(before.Target, after.Target) {
		return report, nil
	}
	found, err := witness.Of(changed, witness.Options{Target: after.Target, Paths: after.Paths, Defaults: o.Defaults, Issuers: o.Issuers, Ports: o.Ports, Limit: o.Limit})
	if err != nil {
		return nil, err
	}
	report.Coverage = found.Coverage
	at := map[[2]Verdict]int{}
	for i := range found.Queries {
		q := &found.Queries[i]
		pair := [2]Verdict{was.decide(q), is.decide(q)}
		if pair[0].Word == pair[1].Word && (pair[0].Word != Asked || pair[0].Source.Provider == pair[1].Source.Provider) {
			continue
		}
		j, known := at[pair]
		if !known {
			j = len(report.Changes)
			at[pair] = j
			report.Changes = append(report.Changes, Change{Before: pair[0], After: pair[1], Witness: *q})
		}
		c := &report.Changes[j]
		if c.Requests++; len(c.some) < maxKept {
			c.some = append(c.some, *q)
		}
		// Plain requests come first in the search; a later one is simpler only if it says less.
		if weight(q) < weight(&c.Witness) {
			c.Witness = *q
		}
	}
	for i := range report.Changes {
		report.Changes[i].Flags = report.Changes[i].Witness.Args()
	}
	// What opens comes first: it is what a reviewer must not miss.
	slices.SortStableFunc(report.Changes, func(a, b Change) int {
		return cmp.Or(-cmp.Compare(a.After.openness(), b.After.openness()), cmp.Compare(a.Before.By, b.Before.By), cmp.Compare(a.After.By, b.After.By))
	})
	for i := range report.Edits {
		if err := report.ascribe(&report.Edits[i], was, is, before, after); err != nil {
			return nil, err
		}
	}
	return report, nil
}

// weight is how much a query says. That a client has no identity is more to believe than that it has one.
func weight(q *query.Query) int {
	n := len(q.Args())
	if q.Source == "" {
		n += 3
	}
	return n
}

// maxKept bounds the requests of a change that are asked again for each edit.
const maxKept = 50

// ascribe finds out whether an edit is at work: whether on either side some verdict of a change would be another if this policy
// were as it is on the other side.
func (r *Report) ascribe(e *Edit, was, is *judge, before, after Side) error {
	for _, side := range []struct {
		side  Side
		other []istio.Policy
		judge *judge
	}{{before, after.Policies, was}, {after, before.Policies, is}} {
		swapped, err := newJudge(side.side.swap(e, side.other))
		if err != nil {
			return err
		}
		for _, c := range r.Changes {
			for i := range c.some {
				if swapped.decide(&c.some[i]).Word != side.judge.decide(&c.some[i]).Word {
					e.Effect = true
					return nil
				}
			}
		}
	}
	return nil
}

// swap puts the other side's form of a policy in place of this side's.
func (s Side) swap(e *Edit, other []istio.Policy) Side {
	out := s
	out.Policies = nil
	is := func(p istio.Policy) bool { return p.Namespace == e.Namespace && p.Name == e.Name }
	for _, p := range s.Policies {
		if !is(p) {
			out.Policies = append(out.Policies, p)
		}
	}
	for _, p := range other {
		if is(p) {
			out.Policies = append(out.Policies, p)
		}
	}
	return out
}

func (v Verdict) openness() int {
	return map[string]int{Denied: 0, Asked: 1, Allowed: 2}[v.Word]
}

// judge decides for one side.
type judge struct {
	policies []istio.Policy // that apply
	chain    authz.Chain
	paths    pathnorm.Options
}

func newJudge(s Side) (*judge, error) {
	j := &judge{paths: s.Paths}
	for _, p := range s.Policies {
		rules, err := istio.Compile([]istio.Policy{p}, s.Target)
		if err != nil {
			return nil, err
		}
		if chain, err := rules.Chain(); err != nil {
			return nil, err
		} else if len(chain) > 0 {
			j.policies = append(j.policies, p)
		}
	}
	rules, err := istio.Compile(s.Policies, s.Target)
	if err != nil {
		return nil, err
	}
	j.chain, err = rules.Chain()
	return j, err
}

func (j *judge) decide(q *query.Query) Verdict {
	r, err := q.Request(j.paths)
	if err != nil {
		return Verdict{Word: Denied, By: err.Error()}
	}
	v := j.chain.Decide(r)
	switch {
	case v.Allowed && v.Custom != nil:
		return Verdict{Asked, fmt.Sprintf("%s, asks provider %s", name(v.Custom.Source, v.Custom.Policy), v.Custom.Source.Provider), v.Custom.Source}
	case v.Policy != "":
		return Verdict{word(v.Allowed), name(v.Source, v.Policy), v.Source}
	case !v.Allowed:
		return Verdict{Word: Denied, By: "no ALLOW policy matches"}
	case v.Stage < 0:
		return Verdict{Word: Allowed, By: "no policy applies"}
	}
	return Verdict{Word: Allowed, By: "no DENY policy matches, and there is no ALLOW policy"}
}

func word(allowed bool) string {
	if allowed {
		return Allowed
	}
	return Denied
}

func name(s authz.Source, policy string) string {
	if s.IsZero() {
		return policy
	}
	return fmt.Sprintf("%s/%s rules[%d]", s.Namespace, s.Name, s.Rule)
}

// editsOf compares by name, and lists all policies of both sides with those that differ first.
func editsOf(before, after []istio.Policy) (edits []Edit, all []istio.Policy) {
	var same []istio.Policy
	find := func(list []istio.Policy, p *istio.Policy) *istio.Policy {
		i := slices.IndexFunc(list, func(o istio.Policy) bool { return o.Namespace == p.Namespace && o.Name == p.Name })
		if i < 0 {
			return nil
		}
		return &list[i]
	}
	for i := range before {
		p := &before[i]
		switch o := find(after, p); {
		case o == nil:
			edits, all = append(edits, Edit{Namespace: p.Namespace, Name: p.Name, What: "removed"}), append(all, *p)
		case !proto.Equal(o.Spec, p.Spec) || o.Annotations[istio.DryRun] != p.Annotations[istio.DryRun]:
			edits, all = append(edits, Edit{Namespace: p.Namespace, Name: p.Name, What: "changed"}), append(all, *p, *o)
		default:
			same = append(same, *p)
		}
	}
	for i := range after {
		if p := &after[i]; find(before, p) == nil {
			edits, all = append(edits, Edit{Namespace: p.Namespace, Name: p.Name, What: "added"}), append(all, *p)
		}
	}
	return edits, append(all, same...)
}
