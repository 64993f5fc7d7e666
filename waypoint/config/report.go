package config

import (
	"cmp"
	"maps"
	"slices"
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

// account is what one resource contributes to the report. It is immutable once in the ledger.
type account struct {
	tallies  []resourceTally
	refusals []Refusal
	notes    []Note
}

type resourceTally struct {
	resource string
	*tally
}

func (a *account) count(resource string, t *tally) {
	if t != nil {
		a.tallies = append(a.tallies, resourceTally{resource, t})
	}
}

func (a *account) refuse(resource string, err error) {
	if err != nil {
		a.refusals = append(a.refusals, Refusal{resource, err.Error()})
	}
}

func (a *account) note(resource string, notes []string) {
	for _, n := range notes {
		a.notes = append(a.notes, Note{resource, n})
	}
}

func (ls *listenerState) account(name string) *account {
	if ls.path == nil && ls.accounted != nil { // what a path leads to may change without its listener
		return ls.accounted
	}
	a := &account{}
	resource := "Listener " + name
	a.count(resource, ls.findings)
	a.note(resource, ls.notes)
	switch {
	case ls.path != nil:
		a.refuse(resource, ls.path.err)
	case ls.dispatch != nil:
		a.refuse(resource, ls.dispatch.Refused)
	case ls.socket != nil:
		a.refuse(resource, ls.socket.Refused)
	}
	for _, ch := range ls.chains {
		chain := resource + ", filter chain " + ch.name
		a.count(chain, ch.findings)
		a.note(chain, ch.notes)
		a.refuse(chain, ch.out.Refused)
	}
	ls.accounted = a
	return a
}

func (st *clusterState) account(name string) *account {
	a := &account{}
	resource := "Cluster " + name
	a.count(resource, st.base.findings)
	if st.claFindings != nil {
		a.count("ClusterLoadAssignment "+st.base.edsName, st.claFindings)
	}
	a.refuse(resource, st.out.Refused)
	return a
}

// endpoints accounts for the endpoints that cannot be reached, nil if all can.
func (st *clusterState) endpoints(name string) *account {
	var a *account
	for _, ep := range st.out.Endpoints {
		if ep.Refused != nil {
			if a == nil {
				a = &account{}
			}
			a.refuse("Cluster "+name+", endpoint "+ep.Display, ep.Refused)
		}
	}
	return a
}

// ledger sums the accounts up, so that a report costs what has changed.
type ledger struct {
	accounts map[string]*account
	troubled map[string]bool // accounts with refusals or notes
	counts   [len(classNames)]int
	entries  map[*rule]*ledgerEntry
	last     map[string]bool // paths of the last report's entries
}

type ledgerEntry struct {
	Entry
	from string // the account that Resource and Example are of: the first one that has the field
	// stale: that account has changed, and any may be the first one now.
	stale bool
}

func newLedger() *ledger {
	return &ledger{accounts: map[string]*account{}, troubled: map[string]bool{}, entries: map[*rule]*ledgerEntry{}}
}

// put replaces the account of that key; nil removes it.
func (l *ledger) put(key string, a *account) {
	old := l.accounts[key]
	if old == a {
		return
	}
	if old != nil {
		l.sum(key, old, -1)
		delete(l.accounts, key)
		delete(l.troubled, key)
	}
	if a != nil {
		l.sum(key, a, +1)
		l.accounts[key] = a
		if len(a.refusals)+len(a.notes) > 0 {
			l.troubled[key] = true
		}
	}
}

func (l *ledger) sum(key string, a *account, sign int) {
	for _, t := range a.tallies {
		for i, n := range t.counts {
			l.counts[i] += sign * n
		}
		for _, f := range t.found {
			e := l.entries[f.rule]
			if e == nil {
				e = &ledgerEntry{Entry: Entry{Path: f.path, Class: f.class, Why: f.why}}
				l.entries[f.rule] = e
			}
			e.Count += sign * f.count
			switch {
			case e.Count == 0:
				delete(l.entries, f.rule)
			case sign > 0 && !e.stale && (e.from == "" || key < e.from):
				e.from, e.Resource, e.Example = key, t.resource, f.example
			case sign < 0 && e.from == key:
				e.stale = true
			}
		}
	}
}

// exemplify finds the first example for an entry whose own has gone.
func (l *ledger) exemplify(r *rule, e *ledgerEntry) {
	e.from, e.stale = "", false
	for key, a := range l.accounts {
		if e.from != "" && key >= e.from {
			continue
		}
		for _, t := range a.tallies {
			i := slices.IndexFunc(t.found, func(f finding) bool { return f.rule == r })
			if i >= 0 {
				e.from, e.Resource, e.Example = key, t.resource, t.found[i].example
				break
			}
		}
	}
}

// report sums up, leaving out the accounts that silent names.
func (l *ledger) report(silent map[string]bool) *Report {
	r := &Report{Counts: l.counts}
	for rule, e := range l.entries {
		if e.stale {
			l.exemplify(rule, e)
		}
		r.Entries = append(r.Entries, e.Entry)
	}
	slices.SortFunc(r.Entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Class, a.Class), cmp.Compare(a.Path, b.Path))
	})
	now := make(map[string]bool, len(r.Entries))
	for _, e := range r.Entries {
		now[e.Path] = true
		if e.Class > Inert && !l.last[e.Path] {
			r.New = append(r.New, e)
		}
	}
	l.last = now
	for _, key := range slices.Sorted(maps.Keys(l.troubled)) {
		if silent[key] {
			continue
		}
		r.Refusals = append(r.Refusals, l.accounts[key].refusals...)
		r.Notes = append(r.Notes, l.accounts[key].notes...)
	}
	return r
}
