package h1

import (
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// OnReset(nil) returns only when the function that it takes back does not run any more: what that function uses may be given to
// another request then.
func TestOnResetNilWaitsForACallInProgress(t *testing.T) {
	conn, _ := pair(t)
	sc := NewServerConn(conn, Options{Prefix: []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")})
	s, err := sc.Next()
	if err != nil {
		t.Fatal(err)
	}
	var h message.Head
	if _, err := s.ReadHead(&h); err != nil {
		t.Fatal(err)
	}
	running, release, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s.OnReset(func(*message.ResetError) { close(running); <-release })
	go conn.reset(&message.ResetError{Remote: true})
	<-running
	go func() { s.OnReset(nil); close(returned) }()
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
