package authz

import (
	"net/netip"
	"slices"
)

// reading says how to read an attribute that has no one plain value. See the package comment.
type reading uint8

const (
	certainly reading = iota // every value of the attribute has to satisfy the test
	possibly                 // some value has to
)

// opposite is the reading under a negation: "not X" is certain when X is not even possible.
func (r reading) opposite() reading { return 1 - r }

// evaluation is one request on its way through the policies. With a cache, indexes are used; without one, every clause and
// policy is tried in turn: that is the plain evaluator, which says what is right.
type evaluation struct {
	request *Request
	path    string // see urlPath
	pathIs  pathState
	set     *PolicySet // for its pools
	lines   *lines     // see linesOf; nil until a header has several
	cache   *cache
	steps   int // how many a search of an index may still take: see index.first
}

type pathState uint8

const (
	notSplit pathState = iota
	noPath
	hasPath
)

// urlPath is the path without query and fragment. Many policies ask for it, so it is kept, and some sets never do, so it is only
// made when asked for.
func (e *evaluation) urlPath() (path string, ok bool) {
	if e.pathIs == notSplit {
		e.path, ok = e.request.pathOnly()
		e.pathIs = noPath
		if ok {
			e.pathIs = hasPath
		}
	}
	return e.path, e.pathIs == hasPath
}

// matches reports whether a policy matches: any of its permissions and any of its principals.
func (e *evaluation) matches(p *policy) bool {
	return e.holds(p.permissions, p.reading) && e.holds(p.principals, p.reading)
}

// holds reports whether a clause holds under a reading.
func (e *evaluation) holds(c Clause, r reading) bool {
	switch c := c.(type) {
	case Always:
		return true
	case And:
		for _, part := range c {
			if !e.holds(part, r) {
				return false
			}
		}
		return true
	case Or:
		for _, part := range c {
			if e.holds(part, r) {
				return true
			}
		}
		return false
	case *indexedOr:
		return c.holds(e, r)
	case *Not:
		return !e.holds(c.Clause, r.opposite())
	case *Header:
		return e.header(c, r)
	case *Path:
		path, ok := e.urlPath()
		return ok && c.Pattern.match(path, r)
	case *URITemplate:
		path, ok := e.urlPath()
		return ok && c.Template.Match(path)
	case *IP:
		return within(e.address(c.Of), c.Range, r)
	case *DestinationPort:
		return e.port(c, r)
	case *AddressText:
		return e.addressText(c, r)
	case *ServerName:
		return c.Pattern.match(e.request.ServerName, r)
	case *Authenticated:
		return e.authenticated(c, r)
	case *Certificate:
		return e.certificate(c, r)
	case *FilterStateIs:
		v, ok := e.filterState(c.Key)
		return ok && c.Pattern.match(v, r)
	case *FilterStateIP:
		return e.filterStateIP(c, r)
	case *MetadataIs:
		return e.metadata(c, r)
	}
	// Compile admits no other clause. If one came here all the same: what is not understood refuses.
	return r == possibly
}

func (e *evaluation) address(of Address) netip.Addr {
	switch of {
	case SourceIP:
		return e.request.SourceIP
	case DirectRemoteIP:
		return e.request.DirectRemoteIP
	case RemoteIP:
		return e.request.RemoteIP
	case DestinationIP:
		return e.request.Destination.Addr()
	}
	return netip.Addr{}
}

// within reports whether an address lies in a range; an unknown address possibly does. The zone of a link-local
// address is not part of any range. An IPv4 address in IPv6 form (::ffff:10.0.0.1) certainly lies in ranges of IPv6 only, as in
// Envoy, and possibly in those of the IPv4 address too: whoever writes an x-forwarded-for chooses the form.
func within(addr netip.Addr, rng netip.Prefix, r reading) bool {
	if !addr.IsValid() {
		return r == possibly
	}
	addr = addr.WithZone("")
	return rng.Contains(addr) || r == possibly && addr.Is4In6() && rng.Contains(addr.Unmap())
}

func (e *evaluation) port(c *DestinationPort, r reading) bool {
	if !e.request.Destination.Addr().IsValid() {
		return r == possibly
	}
	port := uint32(e.request.Destination.Port())
	return c.From <= port && port < c.To
}

// authenticated tests every name of the certificate. Any may match under both readings: all of them were vouched for by
// the authority that signed it, and the peer cannot add one.
func (e *evaluation) authenticated(c *Authenticated, r reading) bool {
	peer := e.request.Peer
	if peer == nil {
		return false
	}
	if c.Pattern == nil {
		return true
	}
	for _, san := range peer.URISANs {
		if c.Pattern.match(san, r) {
			return true
		}
	}
	for _, san := range peer.DNSSANs {
		if c.Pattern.match(san, r) {
			return true
		}
	}
	return c.Pattern.match(peer.Subject, r)
}

func (e *evaluation) filterState(key string) (string, bool) {
	if e.request.FilterState == nil {
		return "", false
	}
	return e.request.FilterState.FilterState(key)
}

func (e *evaluation) filterStateIP(c *FilterStateIP, r reading) bool {
	v, ok := e.filterState(c.Key)
	if !ok {
		return false
	}
	addr, err := netip.ParseAddr(v)
	if err != nil {
		withPort, err := netip.ParseAddrPort(v)
		if err != nil {
			return r == possibly // something is there, but which address is unknown
		}
		addr = withPort.Addr()
	}
	if c.Invert {
		r = r.opposite()
	}
	return c.Invert != slices.ContainsFunc(c.Ranges, func(rng netip.Prefix) bool { return within(addr, rng, r) })
}

func invalidPrefix(p netip.Prefix) bool { return !p.IsValid() }
