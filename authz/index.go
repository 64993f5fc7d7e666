package authz

// index finds, in a long list of policies or of alternatives of an Or, the first that holds. See "How a large set is decided" in
// the package comment.
//
// It only ever chooses whom to ask: each one that it finds is tried with the plain evaluator, and one that it does not find
// could not have held.
type index struct {
	policies []policy // the list, one of the two
	parts    []Clause
	root     *node
	groups   []group
}

// node divides a list by what its members need.
type node struct {
	tables []table
	rest   []int32 // who needs nothing that can be looked up, in order
}

// table divides members by one attribute and one test of it.
type table struct {
	attribute uint8 // in the set's list
	test      keyTest
	first     int32 // the first member in it
	longest   int   // the length of the longest text of an exact test: no longer value is looked up

	exact    map[string]entry // isExactly, isExactlyInAnyCase
	prefixes *prefixes        // beginsWith, endsWith
	ranges   *ranges          // liesWithin
	ports    map[uint16]entry // isPort
}

// entry is the members that need one key: a single one by its place in the list, or, below zero, the group ^entry.
type entry int32

// group is several members that need one key, as a list while they are few, divided again when they are many.
type group struct {
	first   int32
	members []int32 // in order
	node    *node
}

// maxFolded is the longest text that is looked up without regard to case. The longest host name has 253 bytes.
const maxFolded = 256

// first returns the place of the first member that holds, or how many there are.
//
// Many values of one attribute, lines of a header say, may lead to the same members again and again, and those of several attributes
// multiply: a client must not make an index slower than no index. So when looking has cost twice what trying all would have, all
// are tried.
func (x *index) first(e *evaluation, r reading) int32 {
	end := int32(max(len(x.policies), len(x.parts)))
	outer := e.steps
	e.steps = 2 * int(end)
	best := x.search(e, x.root, end, r)
	if e.steps < 0 {
		for at := range best {
			if x.holds(e, at, r) {
				best = at
				break
			}
		}
	}
	e.steps = outer
	return best
}

// search looks below a node for a member that holds and comes before best, and returns its place, or best.
//
// Keeping the best place found so far takes the place of merging: where lists of candidates are in order, each is left as soon
// as it comes to that place.
func (x *index) search(e *evaluation, n *node, best int32, r reading) int32 {
	for i := range n.tables {
		if t := &n.tables[i]; t.first < best {
			best = x.searchTable(e, t, best, r)
		}
	}
	return x.tryAll(e, n.rest, best, r)
}

func (x *index) tryAll(e *evaluation, members []int32, best int32, r reading) int32 {
	for _, at := range members {
		if at >= best || e.spent() {
			break
		}
		if x.holds(e, at, r) {
			return at
		}
	}
	return best
}

// holds tries one member. A policy has its own reading; a part of an Or has that of the Or.
func (x *index) holds(e *evaluation, at int32, r reading) bool {
	if x.parts != nil {
		return e.holds(x.parts[at], r)
	}
	return e.matches(&x.policies[at])
}

// spent takes a step, and reports that there is none left: the search is then to end. See first.
func (e *evaluation) spent() bool {
	e.steps--
	return e.steps < 0
}

func (x *index) enter(e *evaluation, to entry, best int32, r reading) int32 {
	if e.spent() {
		return best
	}
	if to >= 0 {
		if int32(to) < best && x.holds(e, int32(to), r) {
			return int32(to)
		}
		return best
	}
	g := &x.groups[^to]
	switch {
	case g.first >= best:
		return best
	case g.node != nil:
		return x.search(e, g.node, best, r)
	}
	return x.tryAll(e, g.members, best, r)
}

func (x *index) searchTable(e *evaluation, t *table, best int32, r reading) int32 {
	switch t.test {
	case liesWithin:
		return x.searchAddress(e, t, best, r)
	case isPort:
		return x.searchPort(e, t, best, r)
	}
	v := e.cache.of(e, t.attribute, r)
	switch v.n {
	case none:
	case many:
		for _, value := range v.all {
			best = x.searchValue(e, t, value, best, r)
		}
	default:
		best = x.searchValue(e, t, v.first, best, r)
	}
	return best
}

func (x *index) searchValue(e *evaluation, t *table, v string, best int32, r reading) int32 {
	switch t.test {
	case isExactly:
		if len(v) <= t.longest {
			if to, ok := t.exact[v]; ok {
				return x.enter(e, to, best, r)
			}
		}
	case isExactlyInAnyCase:
		if len(v) <= t.longest {
			var lower [maxFolded]byte
			for i := range len(v) {
				lower[i] = lowerByte(v[i])
			}
			if to, ok := t.exact[string(lower[:len(v)])]; ok {
				return x.enter(e, to, best, r)
			}
		}
	default:
		for i := t.prefixes.longest(v); i >= 0; i = t.prefixes.parents[i] {
			best = x.enter(e, t.prefixes.entries[i], best, r)
		}
	}
	return best
}

// searchAddress: an address that is not known possibly lies in every range.
func (x *index) searchAddress(e *evaluation, t *table, best int32, r reading) int32 {
	addr := e.address(e.cache.attributes[t.attribute].of).WithZone("")
	if addr.IsValid() {
		for i := t.ranges.smallest(addr); i >= 0; i = t.ranges.parents[i] {
			best = x.enter(e, t.ranges.entries[i], best, r)
		}
		if addr.Is4In6() { // possibly in ranges of the IPv4 address
			for i := t.ranges.smallest(addr.Unmap()); i >= 0; i = t.ranges.parents[i] {
				best = x.enter(e, t.ranges.entries[i], best, r)
			}
		}
	} else if r == possibly {
		for _, to := range t.ranges.entries {
			best = x.enter(e, to, best, r)
		}
	}
	return best
}

// searchPort: if the destination is not known, its port is possibly each.
func (x *index) searchPort(e *evaluation, t *table, best int32, r reading) int32 {
	if e.request.Destination.Addr().IsValid() {
		if to, ok := t.ports[e.request.Destination.Port()]; ok {
			best = x.enter(e, to, best, r)
		}
	} else if r == possibly {
		for _, to := range t.ports {
			best = x.enter(e, to, best, r)
		}
	}
	return best
}

// indexedOr is an Or of many parts with an index of them: a list of ten thousand principals, say. Compile puts it in the place
// of the Or.
type indexedOr struct {
	Or
	index *index
}

func (*indexedOr) clause() {}

func (c *indexedOr) holds(e *evaluation, r reading) bool {
	if e.cache == nil {
		return e.holds(c.Or, r)
	}
	return int(c.index.first(e, r)) < len(c.Or)
}
