// Package query holds a question to a policy as a person writes it: the flags of waypoint authz check, a case of a test
// table, a witness of waypoint authz diff.
//
//	q := query.Query{Source: "cluster.local/ns/shop/sa/web", Method: "GET", Path: "/cart", Host: "cart", Port: 80}
//	r, err := q.Request(pathnorm.Base)
//	verdict := chain.Decide(r)
//	fmt.Println("waypoint authz check -f policies/ " + q.Flags())
//
// It is not stable: everything under authz/x may change from one release to the next.
package query

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
)

// Query is one request, or with TCP one connection. What is left at zero is not there.
type Query struct {
	TCP bool // no HTTP: the fields from Method to Claims say nothing

	// Source is the client's identity, with or without spiffe:// before it. "" is a client without one.
	Source string

	Method, Scheme, Host, Path string // as the client sends them; Host with its port if it has one
	Headers                    []Header
	// Claims are the payload of a JSON web token that has been verified. Nil: no token.
	Claims map[string]any

	// Port that the client dials: the Service's, not the container's.
	Port uint16
	// DestinationIP is the address that the client dials: the Service's.
	DestinationIP netip.Addr
	// SourceIP is the peer's address; RemoteIP the client's as trusted forwarding headers tell it, by default SourceIP.
	SourceIP, RemoteIP netip.Addr
	ServerName         string // of the client's TLS hello
	// Metadata is dynamic metadata that other filters write, by filter.
	Metadata map[string]map[string]any
}

// Header is a header line.
type Header struct{ Name, Value string }

const spiffe = "spiffe://"

// someDestination stands for the address of the destination where only the port is known, so that clauses about the
// port hold or not. It is TEST-NET-1 (RFC 5737), which no policy ought to name.
var someDestination = netip.MustParseAddr("192.0.2.1")

// ErrPath says that a proxy refuses the path with 400 before it asks any policy.
var ErrPath = errors.New("the path holds a NUL: it is refused with 400 before any policy is asked")

// Identity returns Source with spiffe:// before it, "" when there is none.
func (q *Query) Identity() string {
	if q.Source == "" || strings.HasPrefix(q.Source, spiffe) {
		return q.Source
	}
	return spiffe + q.Source
}

// Request is the query as a waypoint would see it, with its path normalised as the mesh says. It shares the query's memory.
func (q *Query) Request(paths pathnorm.Options) (*authz.Request, error) {
	r := &authz.Request{
		HTTP: !q.TCP, SourceIP: q.SourceIP, DirectRemoteIP: q.SourceIP, RemoteIP: q.RemoteIP, ServerName: strings.ToLower(q.ServerName),
	}
	if !r.RemoteIP.IsValid() {
		r.RemoteIP = q.SourceIP
	}
	if q.DestinationIP.IsValid() {
		r.Destination = netip.AddrPortFrom(q.DestinationIP, q.Port)
	} else if q.Port != 0 {
		r.Destination = netip.AddrPortFrom(someDestination, q.Port)
	}
	if id := q.Identity(); id != "" {
		r.FilterState = peer(id)
	}
	m, err := q.metadata()
	if err != nil {
		return nil, err
	}
	if m != nil {
		r.Metadata = m
	}
	if q.TCP {
		return r, nil
	}
	path, _, ok := pathnorm.Normalize(pathnorm.StripFragment(q.Path), paths)
	if !ok {
		return nil, fmt.Errorf("%q: %w", q.Path, ErrPath)
	}
	r.Method, r.Scheme, r.Authority, r.Path = q.Method, q.Scheme, q.Host, path
	if len(q.Headers) > 0 {
		r.Headers = headers(q.Headers)
	}
	return r, nil
}

func (q *Query) metadata() (metadata, error) {
	var m metadata
	set := func(filter string, values map[string]any) error {
		s, err := structpb.NewStruct(values)
		if err != nil {
			return fmt.Errorf("%s: %w", filter, err)
		}
		if m == nil {
			m = metadata{}
		}
		m[filter] = s
		return nil
	}
	for filter, values := range q.Metadata {
		if err := set(filter, values); err != nil {
			return nil, err
		}
	}
	if q.Claims != nil && !q.TCP {
		if err := set("envoy.filters.http.jwt_authn", map[string]any{"payload": q.Claims}); err != nil {
			return nil, err
		}
	}
	return m, nil
}

type peer string

func (p peer) FilterState(key string) (string, bool) { return string(p), key == authz.PeerPrincipal }

type headers []Header

// Header implements authz.Headers.
func (h headers) Header(name string, i int) (string, bool) {
	for _, line := range h {
		if strings.EqualFold(line.Name, name) {
			if i == 0 {
				return line.Value, true
			}
			i--
		}
	}
	return "", false
}

type metadata map[string]*structpb.Struct

// Metadata implements authz.Metadata.
func (m metadata) Metadata(source authz.MetadataSource, filter string) *structpb.Struct {
	if source != authz.DynamicMetadata {
		return nil
	}
	return m[filter]
}
