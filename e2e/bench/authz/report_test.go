package authzbench

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// measured is what a run might print; decide is the time of a decision about the exact set.
func measured(decide string) []byte {
	var b strings.Builder
	line := func(name, cpu, rest string) {
		fmt.Fprintf(&b, "Benchmark%s-2 \t 1000 \t 999999999 ns/op \t %s cpu-ns/op \t %s 0 B/op \t 0 allocs/op\n", name, cpu, rest)
	}
	for range 3 {
		for i, engine := range []string{"gowaypoint", "cedar-go", "OPA"} {
			for j, n := range Sizes {
				line(engineName(engine, n), fmt.Sprint(100+900*i+j), "")
			}
		}
		line("Target/decide/set=get-only", "40", "")
		line("Target/decide/set=exact-10000x10", decide, "")
		line("Target/compile/set=exact-10000x10", "500000000", "100000000 heap-bytes \t")
	}
	return []byte(b.String())
}

func TestReport(t *testing.T) {
	r := &Report{
		Own: measured("900"), OwnStat: "own\n", LibraryStat: "library\n", Command: "make bench-authz",
		Envoy: map[int][]Cost{
			NoRBAC: {{1000, 50 * time.Millisecond}}, 1: {{1000, 49 * time.Millisecond}},
			1_000: {{1000, 150 * time.Millisecond}, {1000, 151 * time.Millisecond}, {1000, 999 * time.Millisecond}}, 10_000: {{10, 40 * time.Millisecond}},
		},
	}
	results, err := r.Check()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range results {
		if !x.Met {
			t.Errorf("%s: %v was not met", x.What, x.Got)
		}
	}
	var text strings.Builder
	if err := r.Write(&text); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"| Envoy, without RBAC | 50 µs | 50 µs | 50 µs |\n",
		"| Envoy | 49 µs | 151 µs | 4.00 ms |\n", // the median of the rounds
		"| … more than without RBAC | not measurable | 101 µs (1000 ×) | 3.95 ms (38725 ×) |\n",
		"| cedar-go | 1 µs (10 ×) | 1 µs (9.9 ×) | 1 µs (9.8 ×) |\n",
		"| gowaypoint | 100 ns (1 ×) | 101 ns (1 ×) | 102 ns (1 ×) |\n",
		"| … compiling them | < 1 s | 500.00 ms | met |\n",
		"| … memory that they keep | < 200 MB | 100 MB | met |\n",
		"own\n```", "library\n```",
	} {
		if !strings.Contains(text.String(), line) {
			t.Errorf("there is no %q in\n%s", line, text.String())
		}
	}
}

func TestCheckFindsWhatIsMissed(t *testing.T) {
	r := &Report{Own: measured("1001")}
	results, err := r.Check()
	if err != nil {
		t.Fatal(err)
	}
	missed := 0
	for _, x := range results {
		if !x.Met {
			missed++
			if x.Benchmark != "Target/decide/set=exact-10000x10" {
				t.Errorf("%+v", x)
			}
		}
	}
	if missed != 1 {
		t.Errorf("%d missed", missed)
	}
	// Without the figures nothing has been checked.
	if _, err := (&Report{Own: []byte("PASS\n")}).Check(); err == nil {
		t.Error("no benchmark at all passes")
	}
}
