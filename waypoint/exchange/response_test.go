package exchange

import (
	"testing"

	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// A client without keep-alive resets its tunnel when it has counted the last byte: its request was not cut short (flag DC).
func TestClientLeavesWithTheLastByte(t *testing.T) {
	for _, c := range []struct {
		name, length string
		sent         uint64
		whole        bool
	}{
		{"all of content-length", "285", 285, true},
		{"less than content-length", "285", 284, false},
		{"no content-length: the end was still to come", "", 285, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			gone := &message.ResetError{Code: message.Cancel, Remote: true}
			e := &exchange{gone: gone}
			if c.length != "" {
				e.resp.Fields.Set(header.ContentLength, c.length)
			}
			e.rec.BytesSent = c.sent
			e.cutOff(gone)
			if e.ended != c.whole {
				t.Errorf("the answer counts as complete: %v, want %v", e.ended, c.whole)
			}
		})
	}
}
