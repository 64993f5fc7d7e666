package policydiff_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/authz/internal/fixture"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
	"github.com/gowaypoint/gowaypoint/authz/x/policydiff"
)

// Each fixture begins with prose. Sections `before` and `after` are the two inputs, for Service/shop/cart; `report` is the
// expected output.
func TestFixtures(t *testing.T) {
	fixture.Run(t, "testdata/*.txt", func(t *testing.T, text string) string {
		prose, sections := fixture.Parse(text)
		got := prose + "-- before --\n" + sections["before"] + "-- after --\n" + sections["after"] + "-- report --\n" + compare(t, sections["before"], sections["after"])
		return got
	})
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
