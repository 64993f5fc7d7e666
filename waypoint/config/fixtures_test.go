package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// A fixture is prose, then sections. "== resources" is a YAML list of resources (with "samples" alone: what istiod sent);
// "== program" is what Compile makes of them; "== report" what it has to say. A later pair of sections changes the resources
// before it: a list item replaces the resource of its name.
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) { runFixture(t, f) })
	}
}

func runFixture(t *testing.T, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := New(doubles())
	res := Resources{}
	var out strings.Builder
	var program, report string
	for i, section := range strings.Split(string(b), "\n== ") {
		if i == 0 {
			out.WriteString(section)
			continue
		}
		name, body, _ := strings.Cut(section, "\n")
		switch name {
		case "samples":
			res = samples(t)
			body = ""
		case "resources":
			if err := addYAML(&res, body); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		case "program":
			body = program
		case "report":
			body = report
		default:
			t.Fatalf("%s: unknown section %q", file, name)
		}
		if name == "samples" || name == "resources" {
			p, rep := c.Compile(res)
			program, report = dump(p), dumpReport(rep)
		}
		fmt.Fprintf(&out, "\n== %s\n%s", name, strings.TrimRight(body, "\n"))
	}
	got := strings.TrimRight(out.String(), "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != strings.TrimRight(string(b), "\n")+"\n" {
		t.Errorf("%s differs; run with -update and look at the change:\n%s", file, firstDifference(string(b), got))
	}
}

func dumpReport(r *Report) string {
	var b strings.Builder
	for _, x := range r.Refusals {
		fmt.Fprintf(&b, "refused %s: %s\n", x.Resource, strings.ReplaceAll(x.Reason, "\n", "; "))
	}
	for _, e := range r.Entries {
		if e.Class > Inert {
			fmt.Fprintf(&b, "%v %s x%d, as %s in %s: %s\n", e.Class, e.Path, e.Count, e.Example, e.Resource, e.Why)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note %s: %s\n", n.Resource, n.Text)
	}
	return b.String()
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return fmt.Sprintf("line %d\n want %q\n  got %q", i+1, a, b)
		}
	}
	return ""
}
