package exchange

import (
	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// startSpan decides about the trace, writes the decision into the request id, and begins the span.
func (e *exchange) startSpan() {
	t := e.http.Tracer
	if t == nil {
		return
	}
	id := e.req.Fields.Value(header.XRequestID)
	marked, reason := t.Decide(&e.req, id)
	if marked != id && id != "" {
		e.req.Fields.Set(header.XRequestID, marked)
	}
	e.span = t.Start(&e.req, reason)
	e.rec.TraceID, e.rec.SpanID = e.span.TraceID(), e.span.SpanID()
}

// injectTrace puts the span into the headers that go upstream.
func (e *exchange) injectTrace() { e.span.Inject((*carrier)(&e.req)) }

func (e *exchange) endSpan() {
	if !e.span.Sampled() {
		return
	}
	operation := ""
	if e.route != nil {
		operation = e.route.Operation
	}
	e.span.Finish(&e.rec, operation)
}

// carrier is a request's head as the tracer writes to it.
type carrier message.Head

func (c *carrier) Get(name string) (string, bool) { return (*message.Head)(c).Get(name) }
func (c *carrier) Set(name, value string)         { c.Fields.SetName(name, value) }
func (c *carrier) Del(name string)                { c.Fields.DelName(name) }
