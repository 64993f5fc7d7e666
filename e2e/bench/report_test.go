package bench

import (
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/e2e/bench/subject"
)

func sample(row, subject string, cpu, rate float64, resident int64) *Sample {
	s := &Sample{Row: row, Subject: subject, CPUMicrosPerReq: cpu, RequestsPerSec: rate}
	s.Memory.Resident = resident
	return s
}

func TestSummaryIsMedianAndRatio(t *testing.T) {
	r := &Report{Reference: "envoy", Samples: []*Sample{
		sample("4x99", "envoy", 90, 10_000, 100), sample("4x99", "waypoint", 9, 100_000, 40),
		sample("4x99", "envoy", 100, 11_000, 110), sample("4x99", "waypoint", 300, 90_000, 50), // one bad round
		sample("4x99", "envoy", 110, 10_500, 120), sample("4x99", "waypoint", 10, 105_000, 44),
	}}
	r.Summarise()
	if len(r.Summary) != 2 || r.Summary[0].Subject != "envoy" {
		t.Fatalf("summary %+v", r.Summary)
	}
	e, w := r.Summary[0], r.Summary[1]
	if e.CPU != 0 || e.Median.CPUMicrosPerReq != 100 || e.Rounds != 3 {
		t.Errorf("reference %+v", e)
	}
	if w.CPU != 0.1 || w.Rate != 100_000.0/10_500 || w.Memory != 0.4 {
		t.Errorf("ratios %+v", w)
	}
}

func TestMedianOfTwoIsTheirMean(t *testing.T) {
	m := medianOf([]*Sample{sample("r", "s", 1, 10, 4), sample("r", "s", 2, 20, 8)})
	if m.CPUMicrosPerReq != 1.5 || m.RequestsPerSec != 15 || m.Memory.Resident != 6 {
		t.Errorf("%+v", m)
	}
}

func TestMemoryOfBodiesIsThePeak(t *testing.T) {
	s := &Sample{GigabitsPerSecond: 1, Memory: subject.Memory{Resident: 1, Peak: 2}}
	if got := memoryFigure(s); got != 2 {
		t.Errorf("%d", got)
	}
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		samples []*Sample
		want    []string
	}{
		"good": {[]*Sample{sample(RowBusy, "envoy", 100, 1, 1), sample(RowBusy, "waypoint", 10, 1, 1), sample(RowIdle, "waypoint", 0, 0, 100_000_000)}, nil},
		"cpu": {[]*Sample{sample(RowBusy, "envoy", 100, 1, 1), sample(RowBusy, "waypoint", 21, 1, 1), sample(RowIdle, "waypoint", 0, 0, 100_000_000)},
			[]string{"0.210 of the CPU"}},
		"memory": {[]*Sample{sample(RowBusy, "envoy", 100, 1, 1), sample(RowBusy, "waypoint", 10, 1, 1), sample(RowIdle, "waypoint", 0, 0, 151_000_000)},
			[]string{"151.0 MB resident"}},
		"no reference": {[]*Sample{sample(RowBusy, "waypoint", 10, 1, 1), sample(RowIdle, "waypoint", 0, 0, 1)}, []string{"no ratio"}},
		"nothing":      {nil, []string{"no ratio", "no memory"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Report{Reference: "envoy", Samples: c.samples}
			r.Summarise()
			got := r.Check("waypoint")
			if len(got) != len(c.want) {
				t.Fatalf("%q, want %q", got, c.want)
			}
			for i, w := range c.want {
				if !strings.Contains(got[i], w) {
					t.Errorf("%q does not say %q", got[i], w)
				}
			}
		})
	}
}

func TestSelectRows(t *testing.T) {
	rows, err := SelectRows("4x99,policies-1000")
	if err != nil || len(rows) != 2 || rows[1].Policy.Count != 1000 {
		t.Errorf("%+v, error %v", rows, err)
	}
	if _, err := SelectRows("4x98"); err == nil || !strings.Contains(err.Error(), "4x99") {
		t.Errorf("error %v; want one that lists the rows", err)
	}
	all, err := SelectRows("")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.Extra {
			t.Errorf("%s is extra", r.Name)
		}
	}
}
