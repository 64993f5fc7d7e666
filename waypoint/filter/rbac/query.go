package rbac

import (
	"net/netip"
	"sync"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
)

// query is an exchange, or a connection, as authz sees it. Queries are reused, so that a decision does not allocate.
type query struct {
	request authz.Request
	x       *filter.Exchange // nil for a connection
	conn    *filter.Conn
	peer    authz.Peer
	uri     [1]string
}

var queries = sync.Pool{New: func() any { return &query{} }}

// ofRequest makes the query of a request; it is to be released.
func ofRequest(x *filter.Exchange) *query {
	q := ofConn(x.Conn)
	q.x = x
	h, r := x.Request, &q.request
	r.HTTP = true
	r.Method, r.Scheme, r.Authority, r.Path = h.Method, h.Scheme, h.Authority, h.Path
	r.Headers, r.Metadata = q, q
	return q
}

// ofConn makes the query of a connection; it is to be released.
func ofConn(c *filter.Conn) *query {
	q := queries.Get().(*query)
	q.conn = c
	remote := c.Remote.Addr().Unmap()
	q.request = authz.Request{
		FilterState: q,
		SourceIP:    remote, DirectRemoteIP: remote, RemoteIP: remote,
		Destination: netip.AddrPortFrom(c.Local.Addr().Unmap(), c.Local.Port()),
		ServerName:  c.RequestedServerName,
	}
	if !c.Local.IsValid() {
		q.request.Destination = netip.AddrPort{}
	}
	if c.TLS {
		q.peer = authz.Peer{DNSSANs: c.PeerDNSSANs, Subject: c.PeerSubject}
		if c.PeerURISAN != "" {
			q.uri[0] = c.PeerURISAN
			q.peer.URISANs = q.uri[:]
		}
		q.request.Peer = &q.peer
	}
	return q
}

func (q *query) release() {
	*q = query{}
	queries.Put(q)
}

// Header implements authz.Headers. Pseudo-headers are the request's own, save :protocol, which a policy of Envoy never sees: an
// HTTP/2 request with it has become one with upgrade.
func (q *query) Header(name string, i int) (string, bool) {
	if name == ":protocol" {
		return "", false
	}
	return q.x.Request.Nth(name, i)
}

// FilterState implements authz.FilterState.
func (q *query) FilterState(key string) (string, bool) {
	if q.x != nil {
		return q.x.FilterState(key)
	}
	return q.conn.State.Get(key)
}

// Metadata implements authz.Metadata.
func (q *query) Metadata(source authz.MetadataSource, namespace string) *structpb.Struct {
	if source == authz.DynamicMetadata {
		return q.x.Metadata.Struct(namespace)
	}
	if q.x.Record.Metadata == nil {
		return nil
	}
	return q.x.Record.Metadata.Lookup(telemetry.MetadataRoute, namespace, nil).GetStructValue()
}
