package policytest_test

import (
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/authz/internal/fixture"
	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
	"github.com/gowaypoint/gowaypoint/authz/x/policytest"
)

// Each fixture begins with prose. Section `policies` is the input, `cases` the table; `result` and, where the file has it,
// `junit` are the expected output.
func TestFixtures(t *testing.T) {
	fixture.Run(t, "testdata/*.txt", func(t *testing.T, text string) string {
		prose, sections := fixture.Parse(text)
		got := prose + "-- policies --\n" + sections["policies"] + "-- cases --\n" + sections["cases"]
		result, junit := run(t, sections["policies"], sections["cases"])
		got += "-- result --\n" + result
		if _, ok := sections["junit"]; ok {
			got += "-- junit --\n" + junit
		}
		return got
	})
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
