package cluster

import "testing"

func TestWear(t *testing.T) {
	var w wear
	if w.over(maxWear, 0) {
		t.Error("as many as allowed")
	}
	if w.over(maxWear, 500) {
		t.Error("many completed")
	}
	if w.over(2*maxWear, 500) { // what completed before counts no further than to zero, as with the peer
		t.Error("as many as allowed, again")
	}
	if !w.over(2*maxWear+1, 500) {
		t.Error("one too many is not noticed")
	}
}
