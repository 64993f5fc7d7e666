package authzcmd

import (
	"bytes"
	"testing"

	"github.com/spf13/cobra"

	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
	"github.com/gowaypoint/gowaypoint/authz/x/reverse"
)

// run executes waypoint authz, and returns what it prints.
func run(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	root := &cobra.Command{Use: "waypoint", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(Command())
	var out, notes bytes.Buffer
	root.SetIn(bytes.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&notes)
	root.SetArgs(append([]string{"authz"}, args...))
	if err := root.Execute(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, notes.Bytes())
	}
	return out.Bytes()
}

// What istiod sent a waypoint becomes policies, these become filters, and those become the same policies again. The files are
// istiod's own, as tests of other packages keep them.
func TestIstiodThereAndBack(t *testing.T) {
	const dir = "../../../../waypoint/"
	for _, file := range []string{dir + "admin/testdata/lds.json", dir + "config/testdata/lds.json"} {
		set, err := manifest.Load([]string{file}, manifest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		policies := 0
		for i := range set.Chains {
			for _, p := range reverse.Policies(rbacFilters(&set.Chains[i])) {
				policies++
				if p.Problem != "" {
					t.Errorf("%s: %s: policy %s/%s: %s", file, &set.Chains[i], p.Namespace, p.Name, p.Problem)
				}
			}
		}
		if policies == 0 {
			t.Errorf("%s: no policies in it", file)
		}
		there := run(t, nil, "convert", "-f", file)
		filters := run(t, there, "convert", "-f", "-")
		back := run(t, filters, "convert", "-f", "-")
		if again := run(t, back, "convert", "-f", "-"); !bytes.Equal(again, filters) {
			t.Errorf("%s: filters\n%s\nand after one more round\n%s", file, filters, again)
		}
	}
}

func readText(t *testing.T, text string) *manifest.Set {
	t.Helper()
	set, err := manifest.Read([]manifest.Source{{Name: "policy.yaml", Data: []byte(text)}}, manifest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}
