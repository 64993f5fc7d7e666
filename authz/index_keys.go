package authz

import (
	"strconv"
	"strings"
)

// key is a necessary condition in a form that can be looked up: an attribute has a value that passes a test with a text.
type key struct {
	text      string
	hash      uint32 // of all the rest
	attribute uint16
	test      keyTest
}

type keyTest uint8

const (
	isExactly keyTest = iota
	isExactlyInAnyCase
	beginsWith
	beginsWithInAnyCase
	endsWith
	endsWithInAnyCase
	liesWithin // text is a rangeText
	isPort     // text is two bytes
)

// condition is a list of keys that a request has at least one of, if the clause holds that the condition was read off. No keys
// at all mean that the clause never holds.
type condition struct {
	keys []key
	on   int32 // the attribute, if all keys are about one; else mixed
}

const mixed = -1

// maxConditions bounds what is read off one clause, since an And of Ors could go on for long. Thirty-two fit a mask (see
// candidate); istiod writes at most one for each field of a rule.
const maxConditions = 32

// keyReader reads conditions off clauses. Keys and conditions come from two arenas, which go when the index has been built.
type keyReader struct {
	attributes []attribute
	known      map[attributeID]uint16
	uses       []int // keys about each attribute
	keys       arena[key]
	conditions arena[condition]
}

// attributeID is what tells attributes apart.
type attributeID struct {
	kind attributeKind
	of   Address
	name string
}

func newKeyReader() *keyReader { return &keyReader{known: map[attributeID]uint16{}} }

// arena hands out slices that are cut from larger ones.
type arena[T any] struct{ free []T }

func (a *arena[T]) make(n int) []T {
	const chunk = 512
	if n > len(a.free) {
		if n >= chunk/4 {
			return make([]T, n)
		}
		a.free = make([]T, chunk)
	}
	s := a.free[:n:n]
	a.free = a.free[n:]
	return s
}

func (x *keyReader) single(keys []key) []condition {
	c := x.conditions.make(1)
	c[0] = newCondition(keys)
	return c
}

func newCondition(keys []key) condition {
	on := int32(mixed)
	for i := range keys {
		if on = int32(keys[i].attribute); on != int32(keys[0].attribute) {
			return condition{keys, mixed}
		}
	}
	return condition{keys, on}
}

// read returns conditions that are each necessary for the clause to hold, under either reading. None at all: nothing that an
// index can look up is necessary.
//
// Both readings may share their keys, because cache.of gives for each all values that can make a clause hold under it. What is
// below a Not is not read: that some value does not match is no condition on a value that an index could find.
func (x *keyReader) read(c Clause) []condition {
	switch c := c.(type) {
	case And:
		return x.and(c)
	case Or:
		return x.or(len(c), func(i int) []condition { return x.read(c[i]) })
	case *indexedOr:
		return x.read(c.Or)
	case *Header:
		if c.Test != HeaderMatches || c.Invert || c.MissingIsEmpty && c.Pattern.Match("") {
			return nil // the last: a header that is absent, and has no value to look up, matches
		}
		name := c.Name
		if name == "host" { // as Request.header has it
			name = ":authority"
		}
		return x.pattern(attribute{kind: ofHeader, name: name}, &c.Pattern)
	case *Path:
		return x.pattern(attribute{kind: ofPath}, &c.Pattern)
	case *URITemplate:
		return x.template(&c.Template)
	case *ServerName:
		return x.pattern(attribute{kind: ofServerName}, &c.Pattern)
	case *FilterStateIs:
		return x.pattern(attribute{kind: ofState, name: c.Key}, &c.Pattern)
	case *Authenticated:
		if c.Pattern == nil {
			return nil
		}
		return x.pattern(attribute{kind: ofPeer}, c.Pattern)
	case *Certificate:
		if c.Names == AnyName || c.Joined || c.Host != "" {
			return nil
		}
		return x.pattern(attribute{kind: ofPeer}, &c.Pattern)
	case *MetadataIs:
		if c.Invert {
			return nil
		}
		return x.value(c, c.Value, true)
	case *IP:
		return x.key(attribute{kind: ofAddress, of: c.Of}, liesWithin, rangeText(c.Range))
	case *DestinationPort:
		if c.To != c.From+1 || c.From > 65535 {
			return nil
		}
		return x.key(attribute{kind: ofPort}, isPort, string([]byte{byte(c.From >> 8), byte(c.From)}))
	}
	return nil
}

// and: what is necessary for a part is necessary for the whole.
func (x *keyReader) and(parts []Clause) []condition {
	var all []condition
	for _, part := range parts {
		some := x.read(part)
		if all == nil {
			all = some
		} else if len(some) > 0 {
			all = append(all, some...) // copies: the arena's slices are full
		}
	}
	return all[:min(len(all), maxConditions)]
}

// or: one condition of each part, put together, is necessary for the whole. There are as many as there are attributes that every
// part says something about, so that a choice between GET of /a and POST of /b can be looked up by method and by path.
func (x *keyReader) or(n int, part func(i int) []condition) []condition {
	if n == 0 {
		return x.single(nil)
	}
	if n == 1 {
		return part(0)
	}
	parts := make([][]condition, n)
	for i := range n {
		if parts[i] = part(i); len(parts[i]) == 0 {
			return nil
		}
	}
	var all []condition
	for i := range parts[0] {
		on := parts[0][i].on
		if on == mixed || i > 0 && has(parts[0][:i], on) {
			continue
		}
		if c, ok := x.union(parts, on); ok {
			all = append(all, c)
		}
	}
	if all == nil {
		c, _ := x.union(parts, mixed)
		all = append(all, c)
	}
	return all
}

func has(conditions []condition, on int32) bool {
	for i := range conditions {
		if conditions[i].on == on {
			return true
		}
	}
	return false
}

// union puts together the best condition of each part, of those on one attribute, or of all if on is mixed. A part that never
// holds adds nothing.
func (x *keyReader) union(parts [][]condition, on int32) (condition, bool) {
	chosen := make([]*condition, len(parts))
	n := 0
	for i, conditions := range parts {
		for j := range conditions {
			c := &conditions[j]
			if on != mixed && c.on != on && len(c.keys) > 0 {
				continue
			}
			if chosen[i] == nil || x.rank(c) < x.rank(chosen[i]) {
				chosen[i] = c
			}
		}
		if chosen[i] == nil {
			return condition{}, false
		}
		n += len(chosen[i].keys)
	}
	keys := x.keys.make(n)[:0]
	for _, c := range chosen {
		keys = append(keys, c.keys...)
	}
	return newCondition(withoutRepeats(keys)), true
}

// withoutRepeats drops a key that is the same as the one before: what the forms of one expression have in common.
func withoutRepeats(keys []key) []key {
	distinct := keys[:0]
	for i := range keys {
		if i == 0 || keys[i] != distinct[len(distinct)-1] {
			distinct = append(distinct, keys[i])
		}
	}
	return distinct
}

// rank orders conditions by what they are likely to tell apart, the least first: identities and paths before namespaces, those
// before beginnings and ends, those before methods and ports.
func (x *keyReader) rank(c *condition) int {
	worst := 0
	for i := range c.keys {
		k := &c.keys[i]
		rank := [...]int{isExactly: 0, isExactlyInAnyCase: 1, liesWithin: 3, beginsWith: 4, beginsWithInAnyCase: 4, endsWith: 5, endsWithInAnyCase: 5, isPort: 8}[k.test]
		switch a := &x.attributes[k.attribute]; {
		case a.kind == ofNamespace || a.kind == ofAccount:
			rank = 2
		case a.kind == ofHeader && a.name == ":method":
			rank = 9
		}
		worst = max(worst, rank)
	}
	return worst
}

// key makes one condition of one key.
func (x *keyReader) key(a attribute, test keyTest, text string) []condition {
	id := attributeID{a.kind, a.of, a.name}
	n, ok := x.known[id]
	if !ok {
		if len(x.attributes) > 1<<15 {
			return nil // more than are looked up by far
		}
		n = uint16(len(x.attributes))
		x.known[id] = n
		x.attributes, x.uses = append(x.attributes, a), append(x.uses, 0)
	}
	x.uses[n]++
	keys := x.keys.make(1)
	keys[0] = key{text: text, hash: hashOf(text, uint32(n)<<8|uint32(test)), attribute: n, test: test}
	return x.single(keys)
}

// hashOf is FNV-1a. It serves to count keys, where two that collide only seem more frequent than they are.
func hashOf(text string, seed uint32) uint32 {
	h := 2166136261 ^ seed
	for i := range len(text) {
		h = (h ^ uint32(text[i])) * 16777619
	}
	return h ^ h>>15
}

func (x *keyReader) pattern(a attribute, p *Pattern) []condition {
	exactly, begins, ends := isExactly, beginsWith, endsWith
	if p.fold {
		exactly, begins, ends = isExactlyInAnyCase, beginsWithInAnyCase, endsWithInAnyCase
	}
	switch p.op {
	case opExact:
		if p.fold && len(p.text) > maxFolded {
			return x.key(a, begins, p.text)
		}
		return x.key(a, exactly, p.text)
	case opPrefix:
		return x.textKey(a, begins, p.text)
	case opSuffix:
		return x.textKey(a, ends, p.text)
	case opRegex:
		if p.regex.re != nil {
			return x.textKey(a, beginsWith, p.regex.prefix)
		}
		return x.or(len(p.regex.globs), func(i int) []condition { return x.glob(a, &p.regex.globs[i]) })
	}
	return nil
}

// textKey makes no condition of an empty text, which every value begins and ends with.
func (x *keyReader) textKey(a attribute, test keyTest, text string) []condition {
	if text == "" {
		return nil
	}
	return x.key(a, test, text)
}

// glob reads off how a value begins and ends, and the namespace and service account in it: istiod asks for those with
// .*/ns/shop/.* and spiffe://.+/ns/shop/(.+/|)sa/web(/.+)?.
//
// Only filter state is looked at for these two. Its values come from certificates; a path, which anyone may write, could hold
// /ns/ ten thousand times.
func (x *keyReader) glob(a attribute, g *glob) []condition {
	last := len(g.literals) - 1
	if last == 0 {
		return x.key(a, isExactly, g.literals[0])
	}
	all := append(x.textKey(a, beginsWith, g.literals[0]), x.textKey(a, endsWith, g.literals[last])...)
	if a.kind != ofState {
		return all
	}
	for _, part := range []struct {
		kind attributeKind
		mark string
	}{{ofNamespace, namespaceMark}, {ofAccount, accountMark}} {
		for i, literal := range g.literals {
			if segment, ok := markedIn(literal, part.mark, i == last); ok {
				all = append(all, x.key(attribute{kind: part.kind, name: a.name}, isExactly, segment)...)
				break
			}
		}
	}
	return all
}

// markedIn finds a whole segment after a mark in a literal: one that ends with a slash, or with the value.
func markedIn(literal, mark string, endsValue bool) (string, bool) {
	for at := strings.Index(literal, mark); at >= 0; {
		segment, rest := segmentAfter(literal[at:], mark)
		if endsValue || 1+len(segment) < len(rest) {
			return segment, true
		}
		literal = rest
		at = strings.Index(literal, mark)
	}
	return "", false
}

func (x *keyReader) template(t *Template) []condition {
	a := attribute{kind: ofPath}
	if len(t.head) == 1 && !t.rest && t.tail == "" {
		return x.key(a, isExactly, t.head[0])
	}
	return append(x.textKey(a, beginsWith, t.head[0]), x.textKey(a, endsWith, t.tail)...) // the head begins with a slash, always
}

// value reads a test of a metadata value. The attribute has a string for its value, or the strings of a list, so a test of an
// element of a list in a list has no key.
func (x *keyReader) value(m *MetadataIs, t ValueTest, top bool) []condition {
	switch t := t.(type) {
	case *ValueString:
		return x.pattern(attribute{kind: ofMetadata, of: Address(m.From), name: metadataName(m), at: m}, &t.Pattern)
	case *ValueListHas:
		if top {
			return x.value(m, t.Element, false)
		}
	case ValueAnyOf:
		return x.or(len(t), func(i int) []condition { return x.value(m, t[i], top) })
	}
	return nil
}

// metadataName tells values of metadata apart.
func metadataName(m *MetadataIs) string {
	name := strconv.AppendQuote(nil, m.Filter)
	for _, part := range m.Path {
		name = strconv.AppendQuote(append(name, ' '), part)
	}
	return string(name)
}
