package exchange

import (
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
)

// finish completes the record and hands it to the filters that report, to the access logs and to the span.
func (e *exchange) finish() {
	r := &e.rec
	e.mu.Lock()
	gone := e.gone
	e.mu.Unlock()
	if gone != nil && !e.ended {
		e.env.Stats.DownstreamReset.Add(1)
		r.Flags.Set(telemetry.FlagDownstreamConnectionTermination)
		r.ResponseCodeDetails = "downstream_remote_disconnect"
	}
	if !e.forwarding && r.ResponseCode != 0 && e.chain.Refused == nil {
		// Answered by a filter. Envoy has routed by then, so route, cluster and service are in its records of denied requests.
		e.destinationOf(e.match())
	}
	took := time.Since(r.Start)
	r.Duration = telemetry.Took(took)
	if e.headSent {
		r.Timing.DownstreamLastTx = telemetry.At(took)
	}
	if sent := e.sentAfter(); sent > 0 { // the client's body ends as the endpoint's does: it is passed on at once
		r.Timing.UpstreamLastTx = telemetry.At(sent)
		if r.Timing.DownstreamLastRx == 0 {
			r.Timing.DownstreamLastRx = r.Timing.UpstreamLastTx
		}
	}
	if r.UpstreamWireBytesSent > 0 {
		r.UpstreamWireBytesSent += r.BytesReceived
	}
	r.Method, r.Scheme, r.Authority, r.Path = e.req.Method, e.req.Scheme, e.req.Authority, e.req.Path
	r.WireBytesReceived += r.BytesReceived
	r.WireBytesSent += r.BytesSent
	if e.http == nil {
		return
	}
	for i := range e.ran {
		if f, ok := e.http.Filters[i].(filter.Finisher); ok {
			f.Finish(&e.x)
		}
	}
	// A filter that reports (istio.stats) counts requests that an earlier filter has answered, too.
	for _, f := range e.http.Filters[e.ran:] {
		if f, ok := f.(filter.Finisher); ok {
			f.Finish(&e.x)
		}
	}
	for _, l := range e.http.Logs {
		l.Log(r)
	}
	e.endSpan()
}
