package authz

import (
	"cmp"
	"math/bits"
	"slices"
	"unsafe"
)

// When an index pays, as BenchmarkCrossover shows: a lookup costs as much as trying a few policies, so a set of fewer is tried in
// turn, as is a group that a lookup has led to. An alternative of an Or is cheaper to try than a policy.
const (
	minPolicies = 6
	minParts    = 10
	maxGroup    = 6
)

// indexer makes the indexes of one set.
type indexer struct {
	minPolicies, minParts int

	reader *keyReader
	lists  []*index
	// reads has, for each list and each of its members, the conditions for it to hold.
	reads [][][]condition
	slots []int8 // for each attribute of the reader its place in the set's list, or -1
}

// buildIndex gives the set an index of its policies, and one to each of their Ors that has many parts.
func (s *PolicySet) buildIndex(minPolicies, minParts int) {
	b := &indexer{minPolicies: minPolicies, minParts: minParts, reader: newKeyReader()}
	for i := range s.policies {
		p := &s.policies[i]
		p.permissions, p.principals = b.indexOrs(p.permissions), b.indexOrs(p.principals)
	}
	if len(s.policies) >= b.minPolicies {
		s.index = &index{policies: s.policies}
		whole := make(And, 2)
		b.add(s.index, len(s.policies), func(i int) []condition {
			whole[0], whole[1] = s.policies[i].permissions, s.policies[i].principals
			return b.reader.and(whole)
		})
	}
	if b.lists == nil {
		return
	}
	s.attributes = b.chooseAttributes()
	for i, x := range b.lists {
		b.build(x, b.reads[i])
	}
}

// indexOrs puts an indexedOr in the place of every Or of many parts. The clauses are the set's own, so they may be changed.
func (b *indexer) indexOrs(c Clause) Clause {
	switch c := c.(type) {
	case And:
		for i := range c {
			c[i] = b.indexOrs(c[i])
		}
	case Or:
		for i := range c {
			c[i] = b.indexOrs(c[i])
		}
		if len(c) >= b.minParts {
			x := &index{parts: c}
			b.add(x, len(c), func(i int) []condition { return b.reader.read(c[i]) })
			return &indexedOr{c, x}
		}
	case *Not:
		c.Clause = b.indexOrs(c.Clause)
	}
	return c
}

func (b *indexer) add(x *index, n int, read func(i int) []condition) {
	all := make([][]condition, n)
	for i := range all {
		all[i] = read(i)
	}
	b.lists, b.reads = append(b.lists, x), append(b.reads, all)
}

// chooseAttributes takes the attributes that are asked about most often.
func (b *indexer) chooseAttributes() []attribute {
	order := make([]int, len(b.reader.attributes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(b.reader.uses[j], b.reader.uses[i]) })
	b.slots = make([]int8, len(order))
	for i := range b.slots {
		b.slots[i] = -1
	}
	chosen := make([]attribute, 0, maxAttributes)
	for _, i := range order[:min(len(order), maxAttributes)] {
		b.slots[i] = int8(len(chosen))
		chosen = append(chosen, b.reader.attributes[i])
	}
	return chosen
}

// candidate is a member of a list on its way into a node.
type candidate struct {
	at   int32
	used uint32 // the conditions that it has been divided by, as a mask
}

// build fills an index, node by node, the largest groups first. There is a limit to the keys of groups that are divided: as many
// as all conditions have. So an index has at most twice as many entries as its list has clauses, however members share keys.
type build struct {
	*index
	slots   []int8
	reads   [][]condition
	counts  []uint32 // two rows, by the hash of a key: see placesOf
	mask    uint32
	budget  int
	pending []pendingGroup // still to be divided
	members arena[int32]
}

// pendingGroup is a list that several keys lead to, and that has to be divided only once.
type pendingGroup struct {
	entries    []entry
	candidates []candidate
}

func (b *indexer) build(x *index, reads [][]condition) {
	w := &build{index: x, slots: b.slots, reads: reads}
	all := make([]candidate, len(reads))
	for i := range all {
		all[i].at = int32(i)
	}
	keys := w.keysOf(all)
	w.counts = make([]uint32, 2*tableSize(keys))
	w.budget = keys + len(reads)
	x.root = w.node(all)
	for len(w.pending) > 0 {
		groups := w.pending
		w.pending = nil
		slices.SortStableFunc(groups, func(a, b pendingGroup) int { return cmp.Compare(len(b.candidates), len(a.candidates)) })
		for _, g := range groups {
			if w.budget <= 0 {
				continue
			}
			n := w.node(g.candidates)
			for _, e := range g.entries {
				w.groups[^e].node, w.groups[^e].members = n, nil
			}
		}
	}
	x.groups = slices.Clone(x.groups)
}

func (w *build) keysOf(candidates []candidate) int {
	n := 0
	for _, c := range candidates {
		for _, condition := range w.reads[c.at] {
			n += len(condition.keys)
		}
	}
	return n
}

// tableSize is a power of two, so that few keys share a count; with more than half a million keys more of them do.
func tableSize(keys int) int { return 1 << bits.Len(uint(min(2*keys, 1<<20-1))) }

// node divides candidates. Each goes by the condition of which the most frequent key is rarest among them: by path, where they
// all share one principal, and by principal where they share the path.
func (w *build) node(candidates []candidate) *node {
	w.count(candidates)
	n := &node{}
	chosen := make([]int8, len(candidates))
	sizes := map[tableID]int{}
	for i, c := range candidates {
		chosen[i] = w.rarest(c)
		if chosen[i] < 0 {
			n.rest = append(n.rest, c.at)
			continue
		}
		candidates[i].used |= 1 << chosen[i]
		for _, k := range w.reads[c.at][chosen[i]].keys {
			sizes[w.table(&k)]++
		}
	}
	n.rest = slices.Clone(n.rest)

	tables := make(map[tableID]*table, len(sizes))
	keys := make(map[tableID]map[string]entry, len(sizes))
	for id, size := range sizes {
		tables[id], keys[id] = &table{attribute: id.attribute, test: id.test, first: -1}, make(map[string]entry, size)
	}
	firstGroup := len(w.groups)
	for i, c := range candidates {
		if chosen[i] < 0 {
			continue
		}
		for _, k := range w.reads[c.at][chosen[i]].keys {
			id := w.table(&k)
			if t := tables[id]; t.first < 0 {
				t.first = c.at
			}
			w.insert(keys[id], k.text, c.at)
			w.budget--
		}
	}
	w.finishGroups(firstGroup, candidates)
	n.tables = make([]table, 0, len(tables))
	for id, t := range tables {
		t.finish(keys[id])
		n.tables = append(n.tables, *t)
	}
	// By where they begin: what is found early saves the later ones.
	slices.SortFunc(n.tables, func(a, b table) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.attribute, b.attribute), cmp.Compare(a.test, b.test))
	})
	return n
}

// count counts the keys that candidates may still be divided by.
func (w *build) count(candidates []candidate) {
	w.mask = uint32(tableSize(w.keysOf(candidates))) - 1
	clear(w.counts[:2*(w.mask+1)])
	for _, c := range candidates {
		for i, condition := range w.reads[c.at] {
			if c.used&(1<<i) != 0 {
				continue
			}
			for j := range condition.keys {
				one, two := w.placesOf(condition.keys[j].hash)
				w.counts[one]++
				w.counts[two]++
			}
		}
	}
}

// placesOf is where a key is counted, once in each row. Other keys may be counted in either place; that a frequent one is in both,
// and makes a rare one seem frequent, is unlikely enough.
func (w *build) placesOf(hash uint32) (one, two uint32) {
	const golden = 0x9e3779b1 // 2^32 by the golden ratio: spreads what is close
	return hash & w.mask, w.mask + 1 + (hash*golden>>8)&w.mask
}

// rarest returns the condition to divide a candidate by, or -1.
func (w *build) rarest(c candidate) int8 {
	best, rarest := -1, uint32(0)
	conditions := w.reads[c.at]
	for i := range conditions {
		if c.used&(1<<i) != 0 {
			continue
		}
		most, ok := w.mostFrequent(conditions[i].keys)
		if !ok {
			continue
		}
		if best >= 0 {
			// Up to what two or three may share, a test that is cheaper to look up is worth more than a key that is rarer.
			const few = maxGroup / 2
			a, b := conditions[i].keys, conditions[best].keys
			if cmp.Or(
				cmp.Compare(max(most, few), max(rarest, few)), cmp.Compare(testOf(a), testOf(b)),
				cmp.Compare(most, rarest), cmp.Compare(len(a), len(b)),
			) >= 0 {
				continue
			}
		}
		best, rarest = i, most
	}
	return int8(best)
}

func testOf(keys []key) keyTest {
	if len(keys) == 0 {
		return isExactly
	}
	return keys[0].test
}

// mostFrequent is how many candidates share the most frequent key; not ok if one is about an attribute that is not in the set's
// list.
func (w *build) mostFrequent(keys []key) (most uint32, ok bool) {
	for i := range keys {
		if w.slots[keys[i].attribute] < 0 {
			return 0, false
		}
		one, two := w.placesOf(keys[i].hash)
		most = max(most, min(w.counts[one], w.counts[two]))
	}
	return most, true
}

type tableID struct {
	attribute uint8
	test      keyTest
}

func (w *build) table(k *key) tableID { return tableID{uint8(w.slots[k.attribute]), k.test} }

// insert adds a member, which comes after all that are there.
func (w *build) insert(keys map[string]entry, text string, at int32) {
	to, ok := keys[text]
	switch {
	case !ok:
		keys[text] = entry(at)
	case to < 0:
		if g := &w.groups[^to]; g.members[len(g.members)-1] != at { // a member may have a key twice
			g.members = append(g.members, at)
		}
	case to != entry(at):
		w.groups = append(w.groups, group{int32(to), []int32{int32(to), at}, nil})
		keys[text] = ^entry(len(w.groups) - 1)
	}
}

// finishGroups packs small groups, and lists the others to be divided, those with the same members together.
func (w *build) finishGroups(from int, candidates []candidate) {
	same := map[string]int{} // by members, the place in pending
	for i := from; i < len(w.groups); i++ {
		g := &w.groups[i]
		packed := w.members.make(len(g.members))
		copy(packed, g.members)
		g.members = packed
		if len(packed) <= maxGroup {
			continue
		}
		name := string(unsafe.Slice((*byte)(unsafe.Pointer(&packed[0])), 4*len(packed)))
		if at, ok := same[name]; ok {
			p := &w.pending[at]
			p.entries = append(p.entries, ^entry(i))
			g.members = w.groups[^p.entries[0]].members
			continue
		}
		same[name] = len(w.pending)
		w.pending = append(w.pending, pendingGroup{[]entry{^entry(i)}, among(candidates, packed)})
	}
}

// among takes the candidates of the given places. Both lists are in order.
func among(candidates []candidate, places []int32) []candidate {
	some := make([]candidate, 0, len(places))
	for _, at := range places {
		i, _ := slices.BinarySearchFunc(candidates, at, func(c candidate, at int32) int { return cmp.Compare(c.at, at) })
		some = append(some, candidates[i])
	}
	return some
}

// finish gives the table the form in which it is searched.
func (t *table) finish(keys map[string]entry) {
	switch t.test {
	case isExactly, isExactlyInAnyCase:
		t.exact = keys
		for text := range keys {
			t.longest = max(t.longest, len(text))
		}
	case beginsWith, beginsWithInAnyCase:
		t.prefixes = newPrefixes(keys, t.test == beginsWithInAnyCase, false)
	case endsWith, endsWithInAnyCase:
		t.prefixes = newPrefixes(keys, t.test == endsWithInAnyCase, true)
	case liesWithin:
		t.ranges = newRanges(keys)
	case isPort:
		t.ports = make(map[uint16]entry, len(keys))
		for text, to := range keys {
			t.ports[uint16(text[0])<<8|uint16(text[1])] = to
		}
	}
}
