package h2

import "testing"

// A peer that has been sent much may answer with more control frames at once than the burst of an idle one.
func TestControlsEarnedByData(t *testing.T) {
	c := &Conn{controls: newBucket(10, 0)}
	c.out.dataFrames.Add(1000)
	for i := range 1000*controlsPerData + 10 {
		if err := c.spendControl(1, "WINDOW_UPDATE"); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
	}
	if c.spendControl(1, "WINDOW_UPDATE") == nil {
		t.Error("there is no limit")
	}
	c.out.dataFrames.Add(1 << 40)
	for range maxEarned {
		if err := c.spendControl(1, "WINDOW_UPDATE"); err != nil {
			t.Fatal(err)
		}
	}
	if c.spendControl(1, "WINDOW_UPDATE") == nil {
		t.Error("what is earned has no bound")
	}
}
