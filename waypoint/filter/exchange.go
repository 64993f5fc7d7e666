package filter

import (
	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// Exchange is one request as filters see it. It belongs to the request's goroutine and is reused for the next request: keep
// nothing of it.
type Exchange struct {
	Conn *Conn
	// Request is the request's head as it will be sent. Filters may change it.
	Request *message.Head
	// Response is the response's head; nil until there is one.
	Response *message.Head
	// Metadata is the request's dynamic metadata.
	Metadata Metadata
	// Record is what will be logged; filters add the fields they know.
	Record *telemetry.Record
	// State is the request's own filter state; lookups go on in Conn.State.
	State State

	// PerRoute returns the per-route configuration of the filter of that name, nil if there is none. It routes the request
	// if that has not happened.
	PerRoute func(name string) any
	// ClearRoute makes the request be routed anew after a filter changed what routes match on.
	ClearRoute func()

	reply Reply
}

// Reply is an answer that the proxy gives itself.
type Reply struct {
	Status int
	Body   string
	// Details is the response code detail.
	Details string
	Flag    telemetry.Flag
	// GRPC is the grpc-status to use for gRPC requests when it is not the one that the HTTP status maps to.
	GRPC telemetry.GRPCStatus
	// Headers are added to the answer: name, value, name, value.
	Headers []string
}

// Reply ends the request with r; the filter returns Stop.
func (x *Exchange) Reply(r Reply) Action {
	x.reply = r
	return Stop
}

// TakeReply returns the reply that a filter left, for the exchange.
func (x *Exchange) TakeReply() Reply {
	r := x.reply
	x.reply = Reply{}
	return r
}

// FilterState looks a key up in the request's state, then in the connection's.
func (x *Exchange) FilterState(key string) (string, bool) {
	if v, ok := x.State.Get(key); ok {
		return v, true
	}
	return x.Conn.State.Get(key)
}
