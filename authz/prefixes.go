package authz

import (
	"slices"
	"strings"
)

// prefixes finds which of many texts a value begins with; or ends with, when it works backwards. It is a sorted list, where each
// text knows the longest other one that it begins with itself:
//
//	0  /            begins with no other
//	1  /api         begins with 0
//	2  /api/v1      begins with 1
//	3  /app         begins with 0
//
// Whatever a value begins with is at or before the value's own place in the order, and is a beginning of its neighbour there. So
// one binary search finds the neighbour, and the links lead to the rest. That is a trie with only the nodes that matter, in 20
// bytes a text.
type prefixes struct {
	texts    []string
	parents  []int32 // -1: begins with no other
	entries  []entry
	fold     bool // texts are in lower case, and values are read so
	backward bool // texts and values are read from their ends
}

func newPrefixes(entries map[string]entry, fold, backward bool) *prefixes {
	p := &prefixes{
		texts: make([]string, 0, len(entries)), parents: make([]int32, len(entries)), entries: make([]entry, len(entries)),
		fold: fold, backward: backward,
	}
	for text := range entries {
		p.texts = append(p.texts, text)
	}
	slices.SortFunc(p.texts, p.compare)
	open := int32(-1) // the text before, and by its links those that it begins with
	for i, text := range p.texts {
		for open >= 0 && !p.begins(text, p.texts[open]) {
			open = p.parents[open]
		}
		p.parents[i], p.entries[i] = open, entries[text]
		open = int32(i)
	}
	return p
}

func (p *prefixes) compare(a, b string) int {
	if !p.backward {
		return strings.Compare(a, b)
	}
	for n := 0; n < len(a) && n < len(b); n++ {
		if x, y := a[len(a)-1-n], b[len(b)-1-n]; x != y {
			return int(x) - int(y)
		}
	}
	return len(a) - len(b)
}

func (p *prefixes) begins(s, with string) bool {
	if p.backward {
		return strings.HasSuffix(s, with)
	}
	return strings.HasPrefix(s, with)
}

// longest returns the longest text that v begins with, or -1. Its parents are the others.
//
// The search compares no byte twice: between two texts that both share n bytes with v, all texts do.
func (p *prefixes) longest(v string) int32 {
	from, to := 0, len(p.texts) // the texts before from are not after v, those at to and later are
	sharedFrom, sharedTo := 0, 0
	for from < to {
		middle := int(uint(from+to) / 2)
		text := p.texts[middle]
		n := p.shared(text, v, min(sharedFrom, sharedTo))
		if n == len(text) || n < len(v) && p.byteAt(text, n) < p.valueAt(v, n) {
			from, sharedFrom = middle+1, n
		} else {
			to, sharedTo = middle, n
		}
	}
	i := int32(from) - 1
	for i >= 0 && len(p.texts[i]) > sharedFrom {
		i = p.parents[i]
	}
	return i
}

// shared says how many bytes the text and the value have in common, of which n are known.
func (p *prefixes) shared(text, v string, n int) int {
	least := min(len(text), len(v))
	if !p.fold && !p.backward { // most are so
		for n < least && text[n] == v[n] {
			n++
		}
		return n
	}
	for n < least && p.byteAt(text, n) == p.valueAt(v, n) {
		n++
	}
	return n
}

func (p *prefixes) byteAt(s string, n int) byte {
	if p.backward {
		n = len(s) - 1 - n
	}
	return s[n]
}

func (p *prefixes) valueAt(s string, n int) byte {
	b := p.byteAt(s, n)
	if p.fold {
		b = lowerByte(b)
	}
	return b
}
