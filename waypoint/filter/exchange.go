package filter

import (
	"sync/atomic"
	"time"

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
	// Wait waits for d, or until the client gives up: then it returns false. nil: see [Exchange.Sleep].
	Wait func(d time.Duration) bool
	// Messages counts the gRPC messages that pass; nil when nobody does. Whoever sets it takes it back in Finish.
	Messages *Messages

	locals []local
	reply  Reply
}

// Messages are the gRPC messages of one request so far. Requests are counted by one goroutine and responses by another.
type Messages struct {
	Requests, Responses atomic.Uint64
}

// local is what one filter keeps during a request.
type local struct{ owner, value any }

// Local returns what owner, a filter, keeps for this request; nil if nothing.
func (x *Exchange) Local(owner any) any {
	for i := range x.locals {
		if x.locals[i].owner == owner {
			return x.locals[i].value
		}
	}
	return nil
}

// SetLocal keeps value for owner until the request is over. Only Request and Finish may call it, because bodies pass on two
// goroutines that call Local; and a filter that has set something sets nil in Finish, for the Exchange is used again.
func (x *Exchange) SetLocal(owner, value any) {
	for i := range x.locals {
		if x.locals[i].owner != owner {
			continue
		}
		if value == nil {
			last := len(x.locals) - 1
			x.locals[i] = x.locals[last]
			x.locals[last] = local{}
			x.locals = x.locals[:last]
			return
		}
		x.locals[i].value = value
		return
	}
	if value != nil {
		x.locals = append(x.locals, local{owner, value})
	}
}

// Sleep delays the request. false: the client gave up meanwhile.
func (x *Exchange) Sleep(d time.Duration) bool {
	if x.Wait != nil {
		return x.Wait(d)
	}
	time.Sleep(d)
	return true
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
