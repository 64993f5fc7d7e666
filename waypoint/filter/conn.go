package filter

import (
	"net/netip"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// Conn is what is known of the connection that requests or bytes come in on: the HBONE connection for CONNECT requests, the
// tunnel for what is inside. It is filled before the first filter runs; State may grow afterwards, by one goroutine at a time.
type Conn struct {
	// ID numbers connections of this process from 1 (%CONNECTION_ID%).
	ID uint64
	// Local is where the client wanted to go: our own address on the HBONE port; inside a tunnel what listener filter
	// original_dst restored (the VIP and port). Not valid if there is none.
	Local netip.AddrPort
	// Remote is the client: the TLS peer, restored inside the tunnel.
	Remote netip.AddrPort
	// RequestedServerName is the SNI.
	RequestedServerName string

	// TLS tells whether this very connection is TLS; the four below are of that TLS. Inside a tunnel they are empty: there
	// the principals are filter state (io.istio.peer_principal, io.istio.local_principal).
	TLS         bool
	PeerURISAN  string
	LocalURISAN string
	PeerSubject string
	PeerDNSSANs []string
	// PeerCertHash is the SHA-256 of the peer's certificate in hex; PeerCertPEM returns it URL-encoded. Both for XFCC.
	PeerCertHash string
	// Handshake is all that the handshake proved, for logs; nil inside a tunnel.
	Handshake *telemetry.TLS

	// State is the filter state: named strings that filters leave for later ones, and for the tunnel's inside.
	State State

	// Peer is the client's workload, nil while unknown. Found once per connection, by address.
	Peer *telemetry.Peer
}

// Principals as the rest of the proxy knows them: filter state keys that istiod's config writes and reads.
const (
	PeerPrincipalKey  = "io.istio.peer_principal"
	LocalPrincipalKey = "io.istio.local_principal"
	AuthorityKey      = "io.istio.connect_authority"
	OriginalDstLocal  = "envoy.filters.listener.original_dst.local_ip"
	OriginalDstRemote = "envoy.filters.listener.original_dst.remote_ip"
)

// State is a small ordered map of filter state. The zero value is empty.
type State struct {
	list []stateEntry
}

type stateEntry struct {
	key, value string
	share      Share
}

// Share is SharedWithUpstream of a set_filter_state entry.
type Share uint8

// The ways in which a value reaches the next connection upstream.
const (
	NotShared  Share = iota
	Once             // the next connection, no further
	Transitive       // all connections upstream
)

// Get returns the value of key.
func (s *State) Get(key string) (string, bool) {
	for i := range s.list {
		if s.list[i].key == key {
			return s.list[i].value, true
		}
	}
	return "", false
}

// Set writes key. What is there already is not written again, so a network filter that is asked once more about an open
// connection does not disturb those who read its state.
func (s *State) Set(key, value string, share Share) {
	for i := range s.list {
		if e := &s.list[i]; e.key == key {
			if e.value != value || e.share != share {
				e.value, e.share = value, share
			}
			return
		}
	}
	s.list = append(s.list, stateEntry{key, value, share})
}

// Delete removes key.
func (s *State) Delete(key string) {
	for i := range s.list {
		if s.list[i].key == key {
			s.list = append(s.list[:i], s.list[i+1:]...)
			return
		}
	}
}

// Upstream makes in hold what s shares with the connection inside it. The two may not be the same.
func (s *State) Upstream(in *State) {
	in.list = in.list[:0]
	for _, e := range s.list {
		switch e.share {
		case Once:
			e.share = NotShared
			in.list = append(in.list, e)
		case Transitive:
			in.list = append(in.list, e)
		}
	}
}

// Clone returns a copy that shares nothing with s.
func (s *State) Clone() State { return State{list: append([]stateEntry(nil), s.list...)} }

// CopyTo writes all of s into dst, as it is shared.
func (s *State) CopyTo(dst *State) {
	for _, e := range s.list {
		dst.Set(e.key, e.value, e.share)
	}
}

// Plain implements telemetry.FilterState.
func (s *State) Plain(key string) (string, bool) { return s.Get(key) }

// Field implements telemetry.FilterState; the objects here are strings and have no fields.
func (s *State) Field(string, string) (string, bool) { return "", false }
