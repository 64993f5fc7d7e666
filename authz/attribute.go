package authz

import (
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/types/known/structpb"
)

// attribute is something of a request that an index looks up: its values are the same whichever policy asks.
type attribute struct {
	kind attributeKind
	name string      // of the header, in lower case; or the key of the filter state
	of   Address     // for ofAddress
	at   *MetadataIs // for ofMetadata: a clause about this value
}

type attributeKind uint8

const (
	ofPath attributeKind = iota
	ofHeader
	ofState
	ofNamespace // segments after /ns/ in filter state
	ofAccount   // segments after /sa/ in filter state
	ofServerName
	ofPeer
	ofMetadata
	ofAddress
	ofPort
)

// The marks before the parts of a SPIFFE identity of Istio: spiffe://<trust domain>/ns/<namespace>/sa/<service account>.
const (
	namespaceMark = "/ns/"
	accountMark   = "/sa/"
)

// maxAttributes bounds the attributes that a set's indexes look up, and so what a cache has room for: 4 KiB. Policies about others,
// than the 64 that are asked about most often, are left to the plain evaluator. Istio's own attributes are a dozen; the rest are
// headers and claims.
const maxAttributes = 64

// values are what an attribute is in one request. There may be many: lines of a header, names of a certificate, elements of a
// claim.
type values struct {
	loaded bool
	n      valueCount
	first  string
	all    []string // when n is many
}

type valueCount uint8

const (
	none    valueCount = iota
	one                // first
	many               // all
	several            // a header on several lines: first alone when it must certainly match, otherwise not yet gathered
)

// cache keeps the values of one request's attributes, so that each is fetched, and each identity read, once. Caches are reused.
type cache struct {
	attributes []attribute // of the set
	values     [maxAttributes]values
	many       []string // of all attributes with many values
}

// maxKept is how much, in values and in bytes, a cache or lines may have room for and still be kept: the usual limit of a request's
// head.
const maxKept = 64 << 10

// release forgets the request.
func (c *cache) release(to *sync.Pool) {
	if cap(c.many) > maxKept {
		return
	}
	clear(c.values[:len(c.attributes)])
	clear(c.many)
	c.many = c.many[:0]
	to.Put(c)
}

// of returns the values of an attribute that a clause may have to match, under a reading: when the clause holds, one of them
// matches. For a header that has to match certainly, on all of its lines, that is the first line.
func (c *cache) of(e *evaluation, id uint8, r reading) *values {
	v := &c.values[id]
	if !v.loaded {
		v.loaded = true
		c.load(e, &c.attributes[id], v)
	}
	if v.n == several && r == possibly {
		c.gatherLines(v, e, c.attributes[id].name)
	}
	return v
}

func (v *values) set(s string, ok bool) {
	if ok {
		v.n, v.first = one, s
	}
}

func (c *cache) load(e *evaluation, a *attribute, v *values) {
	switch a.kind {
	case ofPath:
		v.set(e.urlPath())
	case ofHeader:
		v.set(e.request.header(a.name, 0))
		if _, more := e.request.header(a.name, 1); more {
			v.n = several
		}
	case ofState:
		v.set(e.filterState(a.name))
	case ofNamespace:
		if s, ok := e.filterState(a.name); ok {
			c.gatherMarked(v, s, namespaceMark)
		}
	case ofAccount:
		if s, ok := e.filterState(a.name); ok {
			c.gatherMarked(v, s, accountMark)
		}
	case ofServerName:
		v.set(e.request.ServerName, true)
	case ofPeer:
		if peer := e.request.Peer; peer != nil {
			c.gatherPeer(v, peer)
		}
	case ofMetadata:
		switch kind := e.metadataValue(a.at).GetKind().(type) {
		case *structpb.Value_StringValue:
			v.set(kind.StringValue, true)
		case *structpb.Value_ListValue:
			c.gatherList(v, kind.ListValue)
		}
	}
}

// end gives v the values gathered since from, each once: a line that is repeated a thousand times is looked up once.
func (c *cache) end(v *values, from int) {
	all := c.many[from:]
	slices.Sort(all)
	v.all, v.n = slices.Compact(all), many
}

// gatherLines gathers the lines of a header and the lines joined with commas: what a clause sees that need only possibly hold.
func (c *cache) gatherLines(v *values, e *evaluation, name string) {
	from := len(c.many)
	lines, joined := e.linesOf(name)
	c.many = append(append(c.many, lines...), joined)
	c.end(v, from)
}

// gatherMarked gathers the segments that follow a mark: "shop" of spiffe://td/ns/shop/sa/web after /ns/. There is one, in an
// identity as Istio issues them; whatever else comes, all are found, those that overlap too.
func (c *cache) gatherMarked(v *values, s, mark string) {
	at := strings.Index(s, mark)
	if at < 0 {
		return
	}
	segment, rest := segmentAfter(s[at:], mark)
	if at = strings.Index(rest, mark); at < 0 {
		v.set(segment, true)
		return
	}
	from := len(c.many)
	for c.many = append(c.many, segment); at >= 0; at = strings.Index(rest, mark) {
		segment, rest = segmentAfter(rest[at:], mark)
		c.many = append(c.many, segment)
	}
	c.end(v, from)
}

// segmentAfter takes the segment after a mark that s begins with. The rest begins with the last slash of the mark: another mark
// may begin there.
func segmentAfter(s, mark string) (segment, rest string) {
	rest = s[len(mark)-1:]
	segment, _, _ = strings.Cut(rest[1:], "/")
	return segment, rest
}

func (c *cache) gatherPeer(v *values, p *Peer) {
	from := len(c.many)
	c.many = append(c.many, p.URISANs...)
	c.many = append(c.many, p.DNSSANs...)
	c.many = append(c.many, p.Subject)
	c.end(v, from)
}

func (c *cache) gatherList(v *values, list *structpb.ListValue) {
	from := len(c.many)
	for _, element := range list.GetValues() {
		if text, ok := element.GetKind().(*structpb.Value_StringValue); ok {
			c.many = append(c.many, text.StringValue)
		}
	}
	c.end(v, from)
}
