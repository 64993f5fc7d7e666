//go:build envoy

package bench

import (
	"context"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/bench/subject"
)

// Every kind of load works with a real Envoy and gives the figures that its row has; how large they are is no matter here.
func TestRowsWithEnvoy(t *testing.T) {
	lab, err := NewLab()
	if err != nil {
		t.Fatal(err)
	}
	lab.Warm, lab.Window = 50*time.Millisecond, 300*time.Millisecond
	for _, row := range []Row{
		{Name: "closed", run: closed(2, 5)}, {Name: "open", run: open(2, 5, 200)}, {Name: "churn", run: churn(1, 5)},
		{Name: "bodies", run: bodies(1, 2, 1<<20)}, {Name: "downloads", run: downloads(2, 5_000_000, 0)},
	} {
		t.Run(row.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			s, err := lab.Measure(ctx, subject.Envoy(""), row)
			if err != nil {
				t.Fatal(err)
			}
			if s.Requests == 0 || s.RequestsPerSec == 0 || s.P50Micros == 0 || s.P99Micros < s.P50Micros || s.Memory.Resident == 0 || s.UpstreamTunnels == 0 {
				t.Errorf("figures are missing: %+v", s)
			}
			if big := row.Name == "bodies" || row.Name == "downloads"; big != (s.GigabitsPerSecond > 0) {
				t.Errorf("%v Gb/s", s.GigabitsPerSecond)
			}
		})
	}
}
