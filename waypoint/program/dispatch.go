package program

import (
	"net/netip"
	"sort"
)

// PortSet is a set of destination port ranges, [From, To), in ascending order and apart from one another.
type PortSet []PortRange

// PortRange is a half-open range, as envoy.type.v3.Int32Range.
type PortRange struct{ From, To uint32 }

// Has tells whether port is in the set.
func (s PortSet) Has(port uint16) bool {
	i := sort.Search(len(s), func(i int) bool { return s[i].To > uint32(port) })
	return i < len(s) && s[i].From <= uint32(port)
}

// Ranges maps addresses to port matches by longest prefix, as xds.type.matcher.v3.IPMatcher does; of two equal prefixes the
// one listed first wins. A service's VIPs are all /32 or /128, so the exact map answers nearly always.
type Ranges struct {
	exact    map[netip.Addr]*PortMatch
	prefixes map[int]map[netip.Prefix]*PortMatch // by length, for those that are no single address
	lengths  []int                               // descending
}

// NewRanges makes an empty table.
func NewRanges() *Ranges {
	return &Ranges{exact: map[netip.Addr]*PortMatch{}, prefixes: map[int]map[netip.Prefix]*PortMatch{}}
}

// Add enters a prefix; an equal one that is there already stays.
func (r *Ranges) Add(p netip.Prefix, m *PortMatch) {
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	p = p.Masked()
	if p.IsSingleIP() {
		if _, ok := r.exact[p.Addr()]; !ok {
			r.exact[p.Addr()] = m
		}
		return
	}
	byLen := r.prefixes[p.Bits()]
	if byLen == nil {
		byLen = map[netip.Prefix]*PortMatch{}
		r.prefixes[p.Bits()] = byLen
		i := 0
		for i < len(r.lengths) && r.lengths[i] > p.Bits() {
			i++
		}
		r.lengths = append(r.lengths[:i], append([]int{p.Bits()}, r.lengths[i:]...)...)
	}
	if _, ok := byLen[p]; !ok {
		byLen[p] = m
	}
}

// Lookup returns the match for an address, nil if no prefix holds it.
func (r *Ranges) Lookup(a netip.Addr) *PortMatch {
	if r == nil {
		return nil
	}
	if m, ok := r.exact[a]; ok {
		return m
	}
	for _, bits := range r.lengths {
		if p, err := a.Prefix(bits); err == nil {
			if m, ok := r.prefixes[bits][p]; ok {
				return m
			}
		}
	}
	return nil
}

// All calls f for each prefix, in no order.
func (r *Ranges) All(f func(netip.Prefix, *PortMatch)) {
	for a, m := range r.exact {
		f(netip.PrefixFrom(a, a.BitLen()), m)
	}
	for _, byLen := range r.prefixes {
		for p, m := range byLen {
			f(p, m)
		}
	}
}

// PortMatch is what a range leads to: a protocol match per port, or one for every port.
type PortMatch struct {
	Ports map[uint16]*ProtocolMatch
	// Any is used for ports that are not in Ports (attached workloads: any port).
	Any *ProtocolMatch
}

// ProtocolMatch is a leaf: one chain, or one per sniffed protocol.
type ProtocolMatch struct {
	// Chain is set when the protocol does not matter.
	Chain *Chain
	// Otherwise the chain by what the inspector saw. A nil entry means Else.
	HTTP10, HTTP11, H2C *Chain
	Else                *Chain
}

// Sniffed is what the http_inspector made of the first bytes.
type Sniffed uint8

// The protocols that the inspector tells apart. NotSniffed: the port is not inspected.
const (
	NotSniffed Sniffed = iota
	Unknown
	HTTP10
	HTTP11
	H2C
)

// ForProtocol returns the leaf's chain, or nil: nothing is configured for that protocol.
func (m *ProtocolMatch) ForProtocol(s Sniffed) *Chain {
	if m.Chain != nil {
		return m.Chain
	}
	var c *Chain
	switch s {
	case HTTP10:
		c = m.HTTP10
	case HTTP11:
		c = m.HTTP11
	case H2C:
		c = m.H2C
	}
	if c == nil {
		c = m.Else
	}
	return c
}

// Lookup finds the leaf for a tunnel: by its authority if authorities are matched, else by its local address. nil: no chain.
func (d *Dispatch) Lookup(authority string, local netip.AddrPort) *ProtocolMatch {
	if d.Authorities != nil {
		if m := d.Authorities[authority].port(local.Port()); m != nil {
			return m
		}
	}
	if local.IsValid() {
		if m := d.Ranges.Lookup(local.Addr().Unmap()); m != nil {
			return m.port(local.Port())
		}
	}
	return d.Else.port(local.Port())
}

func (m *PortMatch) port(p uint16) *ProtocolMatch {
	if m == nil {
		return nil
	}
	if leaf, ok := m.Ports[p]; ok {
		return leaf
	}
	return m.Any
}

// Inspects tells whether the http_inspector looks at connections to this port.
func (d *Dispatch) Inspects(port uint16) bool {
	return d.HTTPInspector && !d.HTTPInspectorDisabled.Has(port)
}
