package exchange

import (
	"net/http"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/cluster"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// touch notes that something moved, for the idle timeout.
func (e *exchange) touch() {
	if e.watched {
		e.moved.Store(time.Now().UnixNano())
	}
}

// readHead waits for the request's head, at most for request_headers_timeout from its first byte on (istiod sets none). Envoy answers
// a head that takes longer with 408; here the connection is reset, since the engine that waits for the rest is the one to answer.
func (e *exchange) readHead() (end bool, err error) {
	if d := e.http.RequestHeadersTimeout; d > 0 {
		down := e.down
		t := time.AfterFunc(d, func() { down.Reset(message.Cancel) })
		defer t.Stop()
	}
	return e.down.ReadHead(&e.req)
}

// watch runs the timeouts that bound a stream from the client's side: stream_idle_timeout (the route's idle_timeout in its
// place), request_timeout and max_stream_duration. istiod sets none of them by default, and then there is no timer. They end the
// stream by a reset of both sides; when no answer has begun, the client gets Envoy's 408 first.
func (e *exchange) watch() (stop func()) {
	idle, whole, request := e.http.StreamIdleTimeout, e.http.MaxStreamDuration, e.http.RequestTimeout
	if idle <= 0 && whole <= 0 && request <= 0 {
		return func() {}
	}
	e.watched = true
	e.moved.Store(time.Now().UnixNano())
	var timers []*time.Timer
	if idle > 0 {
		e.mu.Lock()
		generation := e.generation
		e.mu.Unlock()
		var t *time.Timer
		t = time.AfterFunc(idle, func() {
			if left := idle - time.Since(time.Unix(0, e.moved.Load())); left > 0 {
				e.mu.Lock()
				defer e.mu.Unlock()
				if e.generation == generation {
					t.Reset(left)
				}
				return
			}
			e.expire(generation, idleTimeout)
		})
		timers = append(timers, t)
	}
	if whole > 0 {
		timers = append(timers, e.afterTimeout(whole, maxStreamTimeout))
	}
	if request > 0 && !e.noBody {
		e.requestTimer = e.afterTimeout(request, clientTimeout)
		timers = append(timers, e.requestTimer)
	}
	return func() {
		for _, t := range timers {
			t.Stop()
		}
	}
}

// timedOutReply is the answer for a timeout of the client's side, if one has passed.
func timedOutReply(kind timeoutKind) (filter.Reply, bool) {
	switch kind {
	case idleTimeout:
		return filter.Reply{Status: http.StatusRequestTimeout, Body: "stream timeout", Details: "stream_idle_timeout", Flag: telemetry.FlagStreamIdleTimeout}, true
	case maxStreamTimeout:
		return filter.Reply{Status: http.StatusRequestTimeout, Body: "downstream duration timeout", Details: "max_duration_timeout", Flag: telemetry.FlagDurationTimeout}, true
	case clientTimeout:
		return filter.Reply{Status: http.StatusRequestTimeout, Body: "request timeout", Details: "request_overall_timeout"}, true
	}
	return filter.Reply{}, false
}

// autoHost is auto_host_rewrite: the endpoint's DNS name becomes the authority.
func (e *exchange) autoHost(h *cluster.Host) {
	if e.route == nil || !e.route.Forward.AutoHost {
		return
	}
	if name := h.Endpoint().Hostname; name != "" {
		e.req.Authority = name
	}
}
