package exchange

import (
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// startTimeout sets the request's timeout, which runs from the moment that the request has come completely, as Envoy's does.
// Routes of istiod have none by default, so most requests have no timer.
func (e *exchange) startTimeout(d time.Duration) {
	e.mu.Lock()
	e.limit = d
	e.mu.Unlock()
	if e.body.empty() {
		e.requestComplete()
	}
}

// requestComplete notes that the client's request has ended, and starts its timeout. The pump may call it.
func (e *exchange) requestComplete() {
	took := max(time.Since(e.rec.Start), 1)
	e.mu.Lock()
	e.sent = took
	d := e.limit
	e.limit = 0
	e.mu.Unlock()
	if e.requestTimer != nil {
		e.requestTimer.Stop()
	}
	if d > 0 {
		t := e.afterTimeout(d, requestTimeout)
		e.mu.Lock()
		e.timeout = t
		e.mu.Unlock()
	}
}

func (e *exchange) stopTimeout() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.limit = 0
	if e.timeout != nil {
		e.timeout.Stop()
		e.timeout = nil
	}
}

// afterTimeout ends the attempt in progress when d has passed: the stream is reset, and whoever waits for it sees why.
func (e *exchange) afterTimeout(d time.Duration, kind timeoutKind) *time.Timer {
	e.mu.Lock()
	generation := e.generation
	e.mu.Unlock()
	return time.AfterFunc(d, func() { e.expire(generation, kind) })
}

// expire ends the attempt in progress for a timeout of the request with that generation.
func (e *exchange) expire(generation uint64, kind timeoutKind) {
	e.mu.Lock()
	if e.generation != generation { // the exchange is over and another one uses its memory
		e.mu.Unlock()
		return
	}
	if e.timedOut == noTimeout || kind != perTryTimeout {
		e.timedOut = kind
	}
	up, cancel, waiting := e.up, e.cancel, e.waiting
	if waiting != nil {
		close(waiting)
		e.waiting = nil
	}
	e.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	if up != nil {
		up.Reset(message.Cancel)
	}
}

func (e *exchange) timedOutKind() timeoutKind {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.timedOut
}
