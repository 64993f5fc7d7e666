package authz

import (
	"cmp"
	"net/netip"
	"slices"
)

// ranges finds which of many address ranges an address lies in. It is built as prefixes is: sorted, with a link from each range
// to the smallest other one that it lies in.
type ranges struct {
	prefixes []netip.Prefix
	parents  []int32 // -1: lies in no other
	entries  []entry
}

func newRanges(entries map[string]entry) *ranges {
	n := len(entries)
	t := &ranges{prefixes: make([]netip.Prefix, 0, n), parents: make([]int32, n), entries: make([]entry, n)}
	for text := range entries {
		t.prefixes = append(t.prefixes, rangeOf(text))
	}
	slices.SortFunc(t.prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits())
	})
	open := int32(-1)
	for i, rng := range t.prefixes {
		for open >= 0 && !t.prefixes[open].Contains(rng.Addr()) {
			open = t.parents[open]
		}
		t.parents[i], t.entries[i] = open, entries[rangeText(rng)]
		open = int32(i)
	}
	return t
}

// smallest returns the smallest range that the address lies in, or -1. Its parents are the others.
func (t *ranges) smallest(addr netip.Addr) int32 {
	from, to := 0, len(t.prefixes)
	for from < to {
		middle := int(uint(from+to) / 2)
		if t.prefixes[middle].Addr().Compare(addr) <= 0 {
			from = middle + 1
		} else {
			to = middle
		}
	}
	i := int32(from) - 1
	for i >= 0 && !t.prefixes[i].Contains(addr) {
		i = t.parents[i]
	}
	return i
}

// rangeText packs a range into the text of a key, and rangeOf unpacks it.
func rangeText(p netip.Prefix) string {
	text, _ := p.MarshalBinary() // never fails: Compile admits valid ranges only
	return string(text)
}

func rangeOf(text string) netip.Prefix {
	var p netip.Prefix
	_ = p.UnmarshalBinary([]byte(text)) // made by rangeText
	return p
}
