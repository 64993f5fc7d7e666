package policytest_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
	"github.com/gowaypoint/gowaypoint/authz/x/policytest"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// Each fixture begins with prose. Section `policies` is the input, `cases` the table; `result` and, where the file has it,
// `junit` are the expected output.
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
			got := prose + "-- policies --\n" + sections["policies"] + "-- cases --\n" + sections["cases"]
			text, junit := run(t, sections["policies"], sections["cases"])
			got += "-- result --\n" + text
			if _, ok := sections["junit"]; ok {
				got += "-- junit --\n" + junit
			}
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

func run(t *testing.T, policies, table string) (text, junit string) {
	t.Helper()
	cases, err := policytest.Parse("cases.yaml", []byte(table))
	if err != nil {
		return "error:\n" + err.Error() + "\n", ""
	}
	set, err := manifest.Read([]manifest.Source{{Name: "policies.yaml", Data: []byte(policies)}}, manifest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	result, err := policytest.Run(cases, set.IstioPolicies(), policytest.Options{Paths: pathnorm.Base, Resolve: func(c *policytest.Case) (istio.Target, error) {
		chosen, err := set.Target(manifest.Choice{For: c.For, TCP: c.Query.TCP})
		return chosen.Target, err
	}})
	if err != nil {
		return "error:\n" + err.Error() + "\n", ""
	}
	var a, b strings.Builder
	if err := result.WriteText(&a, func(policy int, field string) string { return set.Policies[policy].At(field).String() }); err != nil {
		t.Fatal(err)
	}
	if err := result.WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	return a.String(), b.String()
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
