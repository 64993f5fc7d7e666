package bench

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Report is all that a run has to say; it is what is kept as JSON.
type Report struct {
	Machine   Machine   `json:"machine"`
	Subjects  []string  `json:"subjects"`
	Reference string    `json:"reference"` // the subject that ratios are to
	Samples   []*Sample `json:"samples"`
	Summary   []Summary `json:"summary"`
}

// Summary is one row of one subject: the medians of its rounds, and their ratios to the reference's.
type Summary struct {
	Row     string  `json:"row"`
	Subject string  `json:"subject"`
	Rounds  int     `json:"rounds"`
	Median  Sample  `json:"median"`
	CPU     float64 `json:"cpu_ratio,omitempty"` // below 1: costs less than the reference
	Rate    float64 `json:"rate_ratio,omitempty"`
	P99     float64 `json:"p99_ratio,omitempty"`
	Memory  float64 `json:"memory_ratio,omitempty"` // of the resident memory, or of its peak in downloads
}

// Summarise fills Summary from Samples.
func (r *Report) Summarise() {
	r.Summary = nil
	type key struct{ row, subject string }
	groups := map[key][]*Sample{}
	var order []key
	for _, s := range r.Samples {
		k := key{s.Row, s.Subject}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], s)
	}
	medians := map[key]Sample{}
	for k, g := range groups {
		medians[k] = medianOf(g)
	}
	for _, k := range order {
		m := medians[k]
		s := Summary{Row: k.row, Subject: k.subject, Rounds: len(groups[k]), Median: m}
		if ref, ok := medians[key{k.row, r.Reference}]; ok && k.subject != r.Reference {
			s.CPU = ratio(m.CPUMicrosPerReq, ref.CPUMicrosPerReq)
			s.Rate = ratio(m.RequestsPerSec, ref.RequestsPerSec)
			s.P99 = ratio(m.P99Micros, ref.P99Micros)
			s.Memory = ratio(float64(memoryFigure(&m)), float64(memoryFigure(&ref)))
		}
		r.Summary = append(r.Summary, s)
	}
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// memoryFigure is the peak where bodies were moved, since what counts there is what happened meanwhile.
func memoryFigure(s *Sample) int64 {
	if s.GigabitsPerSecond > 0 {
		return s.Memory.Peak
	}
	return s.Memory.Resident
}

// medianOf takes the median of each figure by itself.
func medianOf(g []*Sample) Sample {
	m := Sample{Row: g[0].Row, Subject: g[0].Subject, At: g[0].At}
	for _, f := range []func(*Sample) *float64{
		func(s *Sample) *float64 { return &s.Seconds }, func(s *Sample) *float64 { return &s.RequestsPerSec },
		func(s *Sample) *float64 { return &s.CPUMicrosPerReq }, func(s *Sample) *float64 { return &s.P50Micros },
		func(s *Sample) *float64 { return &s.P99Micros }, func(s *Sample) *float64 { return &s.P999Micros },
		func(s *Sample) *float64 { return &s.GeneratorLateP99 }, func(s *Sample) *float64 { return &s.GigabitsPerSecond },
		func(s *Sample) *float64 { return &s.ProxyPercent }, func(s *Sample) *float64 { return &s.LoadPercent },
		func(s *Sample) *float64 { return &s.OtherPercent }, func(s *Sample) *float64 { return &s.CPUMicrosPerMegabyte },
	} {
		*f(&m) = median(g, f)
	}
	for _, f := range []func(*Sample) *int64{
		func(s *Sample) *int64 { return &s.Memory.Resident }, func(s *Sample) *int64 { return &s.Memory.Anonymous },
		func(s *Sample) *int64 { return &s.Memory.Peak }, func(s *Sample) *int64 { return &s.UpstreamConnections },
		func(s *Sample) *int64 { return &s.UpstreamTunnels },
	} {
		*f(&m) = median(g, f)
	}
	m.Requests = median(g, func(s *Sample) *uint64 { return &s.Requests })
	return m
}

// median of an even number is the mean of the two in the middle.
func median[T cmp.Ordered](g []*Sample, f func(*Sample) *T) T {
	all := make([]T, len(g))
	for i, s := range g {
		all[i] = *f(s)
	}
	slices.Sort(all)
	n := len(all)
	if n%2 == 1 {
		return all[n/2]
	}
	return mean(all[n/2-1], all[n/2])
}

func mean[T cmp.Ordered](a, b T) T {
	switch a := any(a).(type) {
	case float64:
		return any((a + any(b).(float64)) / 2).(T)
	case int64:
		return any((a + any(b).(int64)) / 2).(T)
	case uint64:
		return any((a + any(b).(uint64)) / 2).(T)
	}
	return b
}

// Print writes the table.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\t\n", args...) } // Flush tells of errors
	row("row\tsubject\tµs/request\tratio\trequests/s\tratio\tp50 ms\tp99 ms\tratio\tp99.9 ms\tGb/s\tµs/MB\tRSS MB\tanon MB\tpeak MB\tratio\tproxy %%\tload %%\tother %%\tupstream")
	for _, s := range r.Summary {
		m := s.Median
		row("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", s.Row, s.Subject,
			figure("%.2f", m.CPUMicrosPerReq), figure("%.3f", s.CPU), figure("%.0f", m.RequestsPerSec), figure("%.2f", s.Rate),
			figure("%.3f", m.P50Micros/1000), figure("%.3f", m.P99Micros/1000), figure("%.3f", s.P99), figure("%.3f", m.P999Micros/1000),
			figure("%.2f", m.GigabitsPerSecond), figure("%.0f", m.CPUMicrosPerMegabyte),
			megabytes(m.Memory.Resident), megabytes(m.Memory.Anonymous), megabytes(m.Memory.Peak), figure("%.3f", s.Memory),
			figure("%.0f", m.ProxyPercent), figure("%.0f", m.LoadPercent), figure("%.0f", m.OtherPercent),
			fmt.Sprintf("%d/%d", m.UpstreamTunnels, m.UpstreamConnections))
	}
	return t.Flush()
}

func figure(format string, v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

func megabytes(n int64) string { return figure("%.1f", float64(n)/1e6) }

// Limits that a change must not break. They are wider than what the project wants to reach (1/10; 100 MB), because machines on
// which this runs by itself are noisy; a change for the worse that matters passes them all the same.
const (
	MaxBusyCPURatio = 1.0 / 5
	MaxIdleMemory   = 150_000_000 // bytes, resident, with 9,900 idle tunnels
)

// Check returns what is beyond the limits, in sentences; a figure that is missing is, too.
func (r *Report) Check(subject string) []string {
	find := func(row string) *Summary {
		i := slices.IndexFunc(r.Summary, func(s Summary) bool { return s.Row == row && s.Subject == subject })
		if i < 0 {
			return nil
		}
		return &r.Summary[i]
	}
	var bad []string
	switch s := find(RowBusy); {
	case s == nil || s.CPU == 0:
		bad = append(bad, fmt.Sprintf("row %s: no ratio of %s to %s was measured", RowBusy, subject, r.Reference))
	case s.CPU > MaxBusyCPURatio:
		bad = append(bad, fmt.Sprintf("row %s: %s uses %.3f of the CPU that %s does for a request; at most %.3f are allowed", RowBusy, subject, s.CPU, r.Reference, MaxBusyCPURatio))
	}
	switch s := find(RowIdle); {
	case s == nil || s.Median.Memory.Resident == 0:
		bad = append(bad, fmt.Sprintf("row %s: no memory of %s was measured", RowIdle, subject))
	case s.Median.Memory.Resident > MaxIdleMemory:
		bad = append(bad, fmt.Sprintf("row %s: %s has %s MB resident; at most %s are allowed", RowIdle, subject,
			megabytes(s.Median.Memory.Resident), megabytes(MaxIdleMemory)))
	}
	return bad
}
