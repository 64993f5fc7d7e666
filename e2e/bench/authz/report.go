package authzbench

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/perf/benchfmt"

	"github.com/gowaypoint/gowaypoint/e2e/bench"
)

// Report is what a run has measured.
type Report struct {
	Machine bench.Machine
	Command string
	// Own and Library are the output of go test -bench: of this module, and of packages authz and authz/rbac.
	Own, Library []byte
	// OwnStat and LibraryStat are what benchstat makes of it.
	OwnStat, LibraryStat string
	// Envoy has the rounds by number of policies, NoRBAC included.
	Envoy map[int][]Cost
}

// Units that benchmarks report besides go test's, and what benchfmt makes of them.
const (
	CPUUnit = "cpu-ns/op" // the processor time of the process
	cpu     = "cpu-sec/op"
)

// Target is a promise about one figure: at most, or below.
type Target struct {
	What            string
	Benchmark, Unit string
	Most            float64 // as the unit has it
	Shown           string  // Most, as people write it
}

// Targets are those of the library. The last is about the difference of two benchmarks, with "-" between them. Compiling,
// which uses several processors, is the wall-clock time, or the processor time of all of them together where that is less because
// others had the processors meanwhile.
var Targets = []Target{
	{"a GET-only policy", "Target/decide/set=get-only", cpu, 50e-9, "< 50 ns"},
	{"… allocations", "Target/decide/set=get-only", "allocs/op", 0, "0"},
	{"10,000 policies of 10 rules by exact principal and path", "Target/decide/set=exact-10000x10", cpu, 1e-6, "< 1 µs"},
	{"… allocations", "Target/decide/set=exact-10000x10", "allocs/op", 0, "0"},
	{"… compiling them", "Target/compile/set=exact-10000x10", "sec/op", 1, "< 1 s"},
	{"… memory allocated for it", "Target/compile/set=exact-10000x10", "B/op", 200e6, "< 200 MB"},
	{"… memory that they keep", "Target/compile/set=exact-10000x10", "heap-bytes", 200e6, "< 200 MB"},
	{"10,000 policies rather than 1 (method, path prefix, principal; the last matches)",
		"Engines/engine=gowaypoint/policies=10000-Engines/engine=gowaypoint/policies=1", cpu, 1e-6, "at most 1 µs more"},
}

// Result is a target with what was measured.
type Result struct {
	Target
	Got float64
	Met bool
}

// Medians are the medians of all counts, by benchmark and unit.
func (r *Report) Medians() (map[string]map[string]float64, error) {
	all := map[string]map[string][]float64{}
	reader := benchfmt.NewReader(bytes.NewReader(r.Own), "own")
	for reader.Scan() {
		switch record := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, record
		case *benchfmt.Result:
			name := string(record.Name)
			if i := strings.LastIndexByte(name, '-'); i > 0 { // the number of processors
				name = name[:i]
			}
			if all[name] == nil {
				all[name] = map[string][]float64{}
			}
			for _, v := range record.Values {
				all[name][v.Unit] = append(all[name][v.Unit], v.Value)
			}
		}
	}
	medians := map[string]map[string]float64{}
	for name, units := range all {
		medians[name] = map[string]float64{}
		for unit, values := range units {
			medians[name][unit] = median(values)
		}
	}
	return medians, reader.Err()
}

func median[T float64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Check compares with the targets. A benchmark that is not there is an error: then nothing was checked.
func (r *Report) Check() ([]Result, error) {
	medians, err := r.Medians()
	if err != nil {
		return nil, err
	}
	value := func(name, unit string) (float64, error) {
		v, ok := medians[name][unit]
		if !ok {
			return 0, fmt.Errorf("no benchmark %s has measured %s", name, unit)
		}
		return v, nil
	}
	var results []Result
	for _, t := range Targets {
		name, less, difference := strings.Cut(t.Benchmark, "-Engines/")
		got, err := value(name, t.Unit)
		if err != nil {
			return nil, err
		}
		if difference {
			base, err := value("Engines/"+less, t.Unit)
			if err != nil {
				return nil, err
			}
			got -= base
		}
		if t.Unit == "sec/op" {
			alone, err := value(name, cpu)
			if err != nil {
				return nil, err
			}
			got = min(got, alone)
		}
		results = append(results, Result{t, got, got <= t.Most})
	}
	return results, nil
}

// Write writes the report as Markdown.
func (r *Report) Write(w io.Writer) error {
	medians, err := r.Medians()
	if err != nil {
		return err
	}
	results, err := r.Check()
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# Deciding by policy: measured

Written by %s; do not edit. %s, %d processors, Linux %s, %s, Envoy %s; %s, load average at the start %s.

## One decision, by the number of policies

Policies by method, path prefix and principal, in the form that istiod sends; only the last one that is tried matches. Libraries: the
processor time of one decision. Envoy: the processor time of one HTTP request that it answers itself, all included; without RBAC
it is the first row, and the third is the difference. In parentheses, how many times gowaypoint's.

`, r.Command, r.Machine.Processor, r.Machine.CPUs, r.Machine.Kernel, r.Machine.Go, r.Machine.Envoy, r.Machine.At.Format(time.DateOnly), r.Machine.Load)
	fmt.Fprint(&b, "| |")
	for _, n := range Sizes {
		fmt.Fprintf(&b, " %s |", policies(n))
	}
	fmt.Fprint(&b, "\n|---|"+strings.Repeat("---|", len(Sizes))+"\n")
	fmt.Fprintf(&b, "| Envoy, without RBAC |%s\n", strings.Repeat(" "+seconds(r.envoy(NoRBAC))+" |", len(Sizes)))
	ours := func(n int) float64 { return medians[engineName("gowaypoint", n)][cpu] }
	row := func(name string, of func(n int) float64) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, n := range Sizes {
			if of(n) <= 0 { // a difference that is less than the disturbances
				fmt.Fprint(&b, " not measurable |")
				continue
			}
			fmt.Fprintf(&b, " %s (%s ×) |", seconds(of(n)), times(of(n)/ours(n)))
		}
		b.WriteByte('\n')
	}
	fmt.Fprint(&b, "| Envoy |")
	for _, n := range Sizes {
		fmt.Fprintf(&b, " %s |", seconds(r.envoy(n)))
	}
	b.WriteByte('\n')
	row("… more than without RBAC", func(n int) float64 { return r.envoy(n) - r.envoy(NoRBAC) })
	for _, name := range []string{"cedar-go", "OPA", "gowaypoint"} {
		row(name, func(n int) float64 { return medians[engineName(name, n)][cpu] })
	}
	b.WriteString("\n## Targets\n\nProcessor time, as above; of compiling the wall-clock time, or the processor time where that is less because others had the processors meanwhile.\n\n| | target | measured | |\n|---|---|---|---|\n")
	for _, x := range results {
		met := "met"
		if !x.Met {
			met = "**missed**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", x.What, x.Shown, amount(x.Got, x.Unit), met)
	}
	fmt.Fprintf(&b, "\n## benchstat: this comparison\n\n```\n%s```\n\n## benchstat: packages authz and authz/rbac\n\n```\n%s```\n", r.OwnStat, r.LibraryStat)
	_, err = io.WriteString(w, b.String())
	return err
}

func engineName(engine string, n int) string {
	return fmt.Sprintf("Engines/engine=%s/policies=%d", engine, n)
}

// times writes a ratio with two or three figures.
func times(ratio float64) string {
	if ratio >= 100 {
		return strconv.FormatFloat(math.Round(ratio), 'f', 0, 64)
	}
	return strconv.FormatFloat(ratio, 'g', 2, 64)
}

// envoy is the median of the rounds, in seconds.
func (r *Report) envoy(n int) float64 {
	var rounds []time.Duration
	for _, c := range r.Envoy[n] {
		rounds = append(rounds, c.PerRequest())
	}
	if len(rounds) == 0 {
		return 0
	}
	return median(rounds).Seconds()
}

func policies(n int) string {
	switch {
	case n == 1:
		return "1 policy"
	case n >= 1000:
		return fmt.Sprintf("%d,%03d policies", n/1000, n%1000)
	}
	return fmt.Sprintf("%d policies", n)
}

func amount(v float64, unit string) string {
	switch unit {
	case cpu, "sec/op":
		return seconds(v)
	case "heap-bytes", "B/op":
		return fmt.Sprintf("%.0f MB", v/1e6)
	}
	return fmt.Sprintf("%.3g", v)
}

func seconds(s float64) string {
	switch d := time.Duration(s * float64(time.Second)); {
	case d.Abs() >= time.Second:
		return fmt.Sprintf("%.2f s", s)
	case d.Abs() >= time.Millisecond:
		return fmt.Sprintf("%.2f ms", s*1e3)
	case d.Abs() >= time.Microsecond:
		return fmt.Sprintf("%.3g µs", s*1e6)
	}
	return fmt.Sprintf("%.3g ns", s*1e9)
}
