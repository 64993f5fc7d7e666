package exchange

import (
	"log/slog"
	"net/netip"
	"sync/atomic"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/cluster"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// Env is what all exchanges of a process share. Its fields are set before the first one.
type Env struct {
	Clusters *cluster.Manager
	// Peer finds the workload that has an address, nil if none is known.
	Peer func(netip.Addr) *telemetry.Peer
	// RequestID makes a request id (a UUID).
	RequestID func() string
	// Tunnel takes over a CONNECT that was routed to an internal listener; it returns when the tunnel is over.
	Tunnel func(t message.Conn, outer *filter.Conn, head *message.Head, to *program.Dispatch)
	// Reachable tells before the answer to a CONNECT whether the tunnel can lead anywhere; see [Env.Tunnel].
	Reachable func(outer *filter.Conn, head *message.Head, to *program.Dispatch) bool
	// Draining: answers to HTTP/1.1 requests say Connection: close.
	Draining atomic.Bool
	Logger   *slog.Logger
	Stats    Stats

	date dateCache
}

// Stats count what exchanges do, over all chains.
type Stats struct {
	Requests        atomic.Uint64
	Active          atomic.Int64
	LocalReplies    atomic.Uint64
	Malformed       atomic.Uint64
	DownstreamReset atomic.Uint64
	Retries         atomic.Uint64
	Mirrors         atomic.Uint64
	MirrorsLeftOut  atomic.Uint64 // the body was not there yet, or there is no such cluster
	Refused         atomic.Uint64 // answered 500 because the chain or route is refused
}
