package policydiff_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
	"github.com/gowaypoint/gowaypoint/authz/x/policydiff"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// Each fixture begins with prose. Sections `before` and `after` are the two inputs, for Service/shop/cart; `report` is the
// expected output.
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			prose, sections := parse(string(raw))
			got := prose + "-- before --\n" + sections["before"] + "-- after --\n" + sections["after"] + "-- report --\n" + compare(t, sections["before"], sections["after"])
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if got != string(raw) {
				t.Errorf("got:\n%s\nwant:\n%s", got, raw)
			}
		})
	}
}

func compare(t *testing.T, before, after string) string {
	t.Helper()
	report, err := policydiff.Compare(side(t, before), side(t, after), policydiff.Options{})
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	for _, c := range report.Changes {
		fmt.Fprintf(&b, "%v\n    %s\n", c, c.Witness.Flags())
	}
	for _, e := range report.Edits {
		fmt.Fprintf(&b, "%s/%s %s, has an effect: %v\n", e.Namespace, e.Name, e.What, e.Effect)
	}
	c := report.Coverage
	fmt.Fprintf(&b, "%d of %d alternatives, %d of %d clauses\n", c.Matched, c.Alternatives, c.Isolated, c.Clauses)
	return b.String()
}

func side(t *testing.T, text string) policydiff.Side {
	t.Helper()
	set, err := manifest.Read([]manifest.Source{{Name: "policies.yaml", Data: []byte(text)}}, manifest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	target, err := set.Target(manifest.Choice{For: "Service/shop/cart"})
	if err != nil {
		t.Fatal(err)
	}
	return policydiff.Side{Policies: set.IstioPolicies(), Target: target.Target, Paths: pathnorm.Base}
}

func parse(text string) (prose string, sections map[string]string) {
	sections, current := map[string]string{}, ""
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(name, " --") {
			current = strings.TrimSuffix(name, " --")
			sections[current] = ""
			continue
		}
		if current == "" {
			prose += line
			continue
		}
		sections[current] += line
	}
	return prose, sections
}
