package filter

import (
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/message"

	"google.golang.org/protobuf/proto"
)

// Action is what a filter wants to happen next.
type Action uint8

const (
	// Continue makes it the next filter's turn.
	Continue Action = iota
	// Stop ends the request with what Reply was given.
	Stop
)

// HTTP is an HTTP filter's place in one chain. See the package documentation for what it may do.
type HTTP interface {
	// Name is HttpFilter.name, by which per-route configuration is found.
	Name() string
	// Request sees the request's head.
	Request(x *Exchange) Action
}

// Responder is an HTTP filter that also sees the response's head (local replies included, when the filter saw the request).
type Responder interface {
	Response(x *Exchange)
}

// Body is an HTTP filter that also sees the bytes that pass. It must not keep or change p.
type Body interface {
	RequestData(x *Exchange, p []byte)
	ResponseData(x *Exchange, p []byte)
}

// Finisher is a filter that is told when the exchange is over and its Record is complete, just before it is logged.
type Finisher interface {
	Finish(x *Exchange)
}

// Network is a network filter's place in one chain.
type Network interface {
	Name() string
	// Connect sees a connection before the terminal filter. nil lets it pass; a Denial closes it. It runs again for open
	// TCP connections when the configuration has changed. The calls for one connection come one after the other, and while
	// one runs nobody else writes to c; those who read c.State at that time see it unchanged, unless a value has changed.
	Connect(c *Conn) *Denial
}

// NetworkFinisher is a network filter that is told when a TCP session is over, or every Interval while it lasts.
type NetworkFinisher interface {
	// Report is called when the session opened, at intervals, and at its end. r may be another Record each time, but Start
	// and ConnectionID are those of the session, by which the filter knows it.
	Report(r *telemetry.Record, phase Phase)
}

// Phase is the moment of a TCP session's life that is reported.
type Phase uint8

// The phases. Counters in the Record are totals since the session began.
const (
	Opened Phase = iota
	Ongoing
	Closed
)

// Denial closes a connection.
type Denial struct {
	// Details goes to %CONNECTION_TERMINATION_DETAILS%.
	Details string
	Flag    telemetry.Flag
	// Delay is how long the connection is held, unread, before it is closed, so that a client that comes back at once does not
	// come back often. It concerns new connections; one that is denied later is closed at once.
	Delay time.Duration
}

// Hold waits for the denial's delay, or until the peer of c gives up.
func (d *Denial) Hold(c interface {
	OnReset(f func(*message.ResetError))
}) {
	if d.Delay <= 0 {
		return
	}
	gone := make(chan struct{})
	c.OnReset(func(*message.ResetError) { close(gone) })
	defer c.OnReset(nil)
	timer := time.NewTimer(d.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-gone:
	}
}

// AccessLog takes records of what is finished. It never blocks.
type AccessLog interface {
	Log(r *telemetry.Record)
}

// Compiler builds the filters of one type.
type Compiler[F any] struct {
	// New compiles a filter. An error makes the chain refuse what comes to it; it must name the field.
	New func(name string, config proto.Message) (F, error)
	// NewRoute compiles the filter's per-route configuration; nil: the filter has none.
	NewRoute func(config proto.Message) (any, error)
}

// Noter is a filter, or the per-route configuration of one, that leaves parts of its configuration out. None of them could let
// a request through that Envoy would refuse: such a part is an error. The compiler reports the notes; each names its field.
type Noter interface {
	Notes() []string
}

// Registry knows the filters by the type URL of their configuration, without "type.googleapis.com/". A TypedStruct is looked
// up by the type it holds and handed over as *structpb.Struct.
type Registry struct {
	HTTP    map[string]Compiler[HTTP]
	Network map[string]Compiler[Network]
}
