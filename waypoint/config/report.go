package config

import (
	"cmp"
	"maps"
	"slices"

	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// Report says what became of the resources. It is immutable.
type Report struct {
	// Counts is the number of fields set, by class.
	Counts [len(classNames)]int
	// Entries are the fields that are not honoured: refused first, then reported, then inert; by path.
	Entries []Entry
	// New are the entries, without the inert ones, that the previous report did not have: worth a line in the log.
	New []Entry
	// Refusals are the parts that serve nobody.
	Refusals []Refusal
	// Notes are remarks by resource: what was left out or replaced without harm.
	Notes []Note
}

// Entry is a field that is not honoured.
type Entry struct {
	Path  string // message and field, as in fields.txt
	Class Class
	Why   string
	Count int
	// Resource is one that has the field, as "Listener main_internal, filter chain direct-http"; Example is its value there.
	Resource, Example string
}

// Refusal is a part that serves nobody.
type Refusal struct {
	Resource string
	Reason   string
}

// Note is a remark.
type Note struct{ Resource, Text string }

// reporter gathers a Report.
type reporter struct {
	Report
	entries map[*rule]*Entry
}

func (r *reporter) add(resource func() string, t *tally) {
	if t == nil {
		return
	}
	for i, n := range t.counts {
		r.Counts[i] += n
	}
	for _, f := range t.found {
		e := r.entries[f.rule]
		if e == nil {
			e = &Entry{Path: f.path, Class: f.class, Why: f.why, Resource: resource(), Example: f.example}
			r.entries[f.rule] = e
		}
		e.Count += f.count
	}
}

func (r *reporter) refuse(resource func() string, err error) {
	if err != nil {
		r.Refusals = append(r.Refusals, Refusal{resource(), err.Error()})
	}
}

func (r *reporter) note(resource func() string, notes []string) {
	for _, n := range notes {
		r.Notes = append(r.Notes, Note{resource(), n})
	}
}

// makeReport gathers what the parts say. It goes over all parts, but not over their fields.
func (c *Compiler) makeReport() *Report {
	r := &reporter{entries: map[*rule]*Entry{}}
	for _, name := range slices.Sorted(maps.Keys(c.listeners)) {
		r.listener(name, c.listeners[name])
	}
	within := map[string]bool{} // clusters that paths go through; by themselves they need not lead anywhere
	for _, ls := range c.listeners {
		if ls.path != nil {
			within[ls.path.to.name] = true
		}
	}
	for _, name := range c.clusterNames() {
		st := c.clusters[name]
		resource := func() string { return "Cluster " + name }
		r.add(resource, st.base.findings)
		r.add(func() string { return "ClusterLoadAssignment " + st.base.edsName }, st.claFindings)
		if st.out != nil {
			r.refuse(resource, st.out.Refused)
			if !within[name] {
				r.endpoints(name, st.out)
			}
		}
	}
	for _, x := range c.circles {
		r.refuse(func() string { return "Cluster " + x.Name }, x.Refused)
	}
	for _, e := range r.entries {
		r.Entries = append(r.Entries, *e)
	}
	slices.SortFunc(r.Entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Class, a.Class), cmp.Compare(a.Path, b.Path))
	})
	known := map[string]bool{}
	for _, e := range c.report.Entries {
		known[e.Path] = true
	}
	for _, e := range r.Entries {
		if e.Class > Inert && !known[e.Path] {
			r.New = append(r.New, e)
		}
	}
	return &r.Report
}

// clusterNames returns the names sorted; they are kept sorted between reports while none comes or goes.
func (c *Compiler) clusterNames() []string {
	if len(c.sorted) == len(c.clusters) && !slices.ContainsFunc(c.sorted, func(n string) bool { return c.clusters[n] == nil }) {
		return c.sorted
	}
	c.sorted = slices.Sorted(maps.Keys(c.clusters))
	return c.sorted
}

func (r *reporter) listener(name string, ls *listenerState) {
	resource := func() string { return "Listener " + name }
	r.add(resource, ls.findings)
	r.note(resource, ls.notes)
	switch {
	case ls.path != nil:
		r.refuse(resource, ls.path.err)
	case ls.dispatch != nil:
		r.refuse(resource, ls.dispatch.Refused)
	case ls.socket != nil:
		r.refuse(resource, ls.socket.Refused)
	}
	for _, ch := range ls.chains {
		chain := func() string { return "Listener " + name + ", filter chain " + ch.name }
		r.add(chain, ch.findings)
		r.note(chain, ch.notes)
		r.refuse(chain, ch.out.Refused)
	}
}

func (r *reporter) endpoints(cluster string, c *program.Cluster) {
	for _, ep := range c.Endpoints {
		r.refuse(func() string { return "Cluster " + cluster + ", endpoint " + ep.Display }, ep.Refused)
	}
}
