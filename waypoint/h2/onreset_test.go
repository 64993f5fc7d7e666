package h2

import (
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// OnReset(nil) returns only when the function that it takes back does not run any more: what that function uses may be given to
// another request then.
func TestOnResetNilWaitsForACallInProgress(t *testing.T) {
	ready, running, release, returned := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	addr := serveOurs(t, func(s *Stream) {
		var h message.Head
		if _, err := s.ReadHead(&h); err != nil {
			return
		}
		s.OnReset(func(*message.ResetError) { close(running); <-release })
		close(ready)
		<-running
		s.OnReset(nil)
		close(returned)
	})
	s := open(t, dialOurs(t, addr, Options{}), get("/"), false)
	<-ready
	s.Reset(message.Cancel)
	<-running
	select {
	case <-returned:
		t.Error("OnReset(nil) returned while the function ran")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	select {
	case <-returned:
	case <-time.After(5 * time.Second):
		t.Error("OnReset(nil) does not return")
	}
}
