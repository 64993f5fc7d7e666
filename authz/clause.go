package authz

import "net/netip"

// Clause is one condition of a policy: a tree of [And], [Or] and [Not] over the attributes below. The set of clauses
// is closed, so that the evaluator and every index know them all.
type Clause interface{ clause() }

// And holds when all of its clauses hold; an empty And holds.
type And []Clause

// Or holds when any of its clauses holds; an empty Or does not.
type Or []Clause

// Not holds when its clause does not.
type Not struct{ Clause Clause }

// Always holds for every request.
type Always struct{}

// Header tests a header or pseudo-header (:method, :authority, :path, :scheme), as
// envoy.config.route.v3.HeaderMatcher. "host" means :authority. See the package comment for headers with several
// values.
type Header struct {
	Name string // in any case; compared in lower case
	Test HeaderTest
	// Pattern is the test for HeaderMatches.
	Pattern Pattern
	// From and To bound the test for HeaderInRange: From <= value < To. A value that is not a decimal integer is
	// in no range.
	From, To int64
	// Present is what HeaderPresent asks for: true for there, false for not there.
	Present bool
	// Invert turns the result of the test around, but a header that is absent still does not match (except by
	// HeaderPresent). This is Envoy's invert_match; Not also turns the absent case around.
	Invert bool
	// MissingIsEmpty tests an absent header as if it were empty.
	MissingIsEmpty bool
	// Joined is for Envoy's matcher trees, which see several values joined with commas: to match certainly, the joined value
	// has to match as well as each of them.
	Joined bool

	single  bool // set by Compile for a pseudo-header, which has one value at most
	oneLine bool // set by Compile: see OneLine
}

// HeaderTest is the kind of test that a [Header] makes.
type HeaderTest uint8

// What a [Header] tests.
const (
	HeaderMatches HeaderTest = iota // the value matches Pattern
	HeaderPresent                   // the header is present or not, as Present says
	HeaderInRange                   // the value is an integer from From up to, not including, To
)

// Path tests the path without query and fragment. A connection has no path and does not match.
type Path struct{ Pattern Pattern }

// URITemplate tests the path without query and fragment against a template.
type URITemplate struct{ Template Template }

// IP tests that an address lies in a range. For one written in IPv6 form see the package comment.
type IP struct {
	Of    Address
	Range netip.Prefix
}

// Address names an address of a request.
type Address uint8

// The addresses of a request.
const (
	SourceIP       Address = iota // [Request].SourceIP
	DirectRemoteIP                // [Request].DirectRemoteIP
	RemoteIP                      // [Request].RemoteIP
	DestinationIP                 // the address of [Request].Destination
)

// DestinationPort tests that From <= port < To.
type DestinationPort struct{ From, To uint32 }

// AddressText tests the text of an address, such as "10.0.0.1" or "2001:db8::1". For one written in IPv6 form see the package
// comment.
type AddressText struct {
	Of Address
	// Port tests the port instead, in decimal. Of must be DestinationIP: no other port is known.
	Port    bool
	Pattern Pattern
}

// ServerName tests the SNI, which is empty when there was none.
type ServerName struct{ Pattern Pattern }

// Authenticated tests the certificate of the TLS peer: one of its URI SANs, else one of its DNS SANs, else its
// subject matches. A nil Pattern asks only that there is a certificate.
type Authenticated struct{ Pattern *Pattern }

// Certificate tests names in the verified certificate of the TLS peer. Without TLS it does not match.
type Certificate struct {
	Names CertificateNames
	// Joined tests the names joined with commas, as Envoy's matcher trees do, instead of each of them. The authority that
	// signed the certificate chose them, so they are one plain value.
	Joined bool
	// Pattern is the test. AnyName has none.
	Pattern Pattern
	// Host, when not empty, is the test in place of Pattern: a DNS name that is this host's, perhaps by a wildcard in its
	// first label, such as *.example.com or w*.example.com.
	Host string
}

// CertificateNames says which names of a certificate are meant.
type CertificateNames uint8

// The names of a certificate.
const (
	AnyName  CertificateNames = iota // asks only that there is a certificate
	URINames                         // [Peer].URISANs
	DNSNames                         // [Peer].DNSSANs
	Subject                          // [Peer].Subject
)

// FilterStateIs tests an object in filter state by its string form. An absent key does not match.
type FilterStateIs struct {
	Key     string
	Pattern Pattern
}

// FilterStateIP tests an address in filter state, with or without a port, against ranges. An absent key does not
// match, inverted or not.
type FilterStateIP struct {
	Key    string
	Ranges []netip.Prefix
	Invert bool
}

// MetadataIs tests a value in metadata, as envoy.type.matcher.v3.MetadataMatcher.
type MetadataIs struct {
	From   MetadataSource
	Filter string   // the namespace, such as envoy.filters.http.jwt_authn
	Path   []string // keys into nested structs; at least one
	Value  ValueTest
	Invert bool // turns the result around, absent values included; but a connection, which has no route, never matches by RouteMetadata
}

func (And) clause()              {}
func (Or) clause()               {}
func (*Not) clause()             {}
func (Always) clause()           {}
func (*Header) clause()          {}
func (*Path) clause()            {}
func (*URITemplate) clause()     {}
func (*IP) clause()              {}
func (*DestinationPort) clause() {}
func (*AddressText) clause()     {}
func (*ServerName) clause()      {}
func (*Authenticated) clause()   {}
func (*Certificate) clause()     {}
func (*FilterStateIs) clause()   {}
func (*FilterStateIP) clause()   {}
func (*MetadataIs) clause()      {}
