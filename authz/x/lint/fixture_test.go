package lint_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/authz/internal/fixture"
	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/x/lint"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// Every rule has a fixture of its name: prose, the input that has the mistake (`bad`), what is said of it (`findings`), and the
// input without (`good`), of which the rule says nothing.
func TestRules(t *testing.T) {
	files := 0
	for _, rule := range lint.Rules() {
		file := filepath.Join("testdata", "rules", rule.ID+".txt")
		raw, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) && slices.Contains(istio.TrapIDs(), rule.ID) {
			continue // package istio finds it, and has the fixtures
		}
		t.Run(rule.ID, func(t *testing.T) {
			if err != nil {
				t.Fatal(err)
			}
			files++
			testRule(t, rule.ID, file, string(raw))
		})
	}
	if there, err := filepath.Glob("testdata/rules/*.txt"); err != nil || len(there) != files {
		t.Errorf("%d files, of which %d are of rules, %v", len(there), files, err)
	}
}

func testRule(t *testing.T, id, file, raw string) {
	t.Helper()
	prose, sections := fixture.Parse(raw)
	bad, good := check(t, "bad.yaml", sections["bad"]), check(t, "good.yaml", sections["good"])
	has := func(f lint.Finding) bool { return f.Rule == id }
	if !slices.ContainsFunc(bad, has) {
		t.Errorf("not found; there are %v", bad)
	}
	for _, f := range good {
		if has(f) {
			t.Errorf("a false alarm: %v", f)
		}
	}
	got := prose + "-- bad --\n" + sections["bad"] + "-- findings --\n" + render(bad) + "-- good --\n" + sections["good"]
	fixture.Check(t, file, raw, got)
}

// Every rule has its line in the documentation.
func TestDocumented(t *testing.T) {
	raw, err := os.ReadFile("../../../docs/authz.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range lint.Rules() {
		if line := fmt.Sprintf("| `%s` | %s | %s |\n", r.ID, r.Severity, r.Summary); !strings.Contains(string(raw), line) {
			t.Errorf("docs/authz.md does not have %s", line)
		}
	}
}

// What package istio knows of who enforces a policy is a rule here, or is said by another rule.
func TestTraps(t *testing.T) {
	otherwise := []string{"spiffe-prefix", "address-as-principal"} // principal-form
	for _, id := range istio.TrapIDs() {
		if !slices.ContainsFunc(lint.Rules(), func(r lint.Rule) bool { return r.ID == id }) && !slices.Contains(otherwise, id) {
			t.Errorf("trap %s is no rule", id)
		}
	}
}

// A corpus of policies that do what they say: nothing is found, save what stands in section `findings` with the reason.
func TestGoodPolicies(t *testing.T) {
	fixture.Run(t, "testdata/good/*.txt", func(t *testing.T, text string) string {
		prose, sections := fixture.Parse(text)
		got := prose + "-- policies --\n" + sections["policies"] + "-- findings --\n" + render(check(t, "good.yaml", sections["policies"]))
		return got
	})
}

func check(t *testing.T, name, text string) []lint.Finding {
	t.Helper()
	set, err := manifest.Read([]manifest.Source{{Name: name, Data: []byte(text)}}, manifest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return lint.Check(set, lint.Options{})
}

func render(findings []lint.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}
