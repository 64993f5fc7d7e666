package exchange

import (
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// startTimeout begins the request's timeout. Routes of istiod have none by default, so most requests have no timer.
func (e *exchange) startTimeout(d time.Duration, kind timeoutKind) {
	e.timeout = e.afterTimeout(d, kind)
}

// afterTimeout ends the attempt in progress when d has passed: the stream is reset, and whoever waits for it sees why.
func (e *exchange) afterTimeout(d time.Duration, kind timeoutKind) *time.Timer {
	e.mu.Lock()
	generation := e.generation
	e.mu.Unlock()
	return time.AfterFunc(d, func() {
		e.mu.Lock()
		if e.generation != generation { // the exchange is over and another one uses its memory
			e.mu.Unlock()
			return
		}
		if e.timedOut == noTimeout || kind == requestTimeout {
			e.timedOut = kind
		}
		up, cancel := e.up, e.cancel
		e.mu.Unlock()
		if cancel != nil {
			cancel()
		}
		if up != nil {
			up.Reset(message.Cancel)
		}
	})
}

func (e *exchange) timedOutKind() timeoutKind {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.timedOut
}

// forgetPerTry makes room for another attempt after one ran out of its time.
func (e *exchange) forgetPerTry() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.timedOut == perTryTimeout {
		e.timedOut = noTimeout
	}
}
