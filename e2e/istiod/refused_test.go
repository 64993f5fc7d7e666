package istiod

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/e2e/istiod/builder"
)

const corpusDir = "testdata/corpus"

func corpus(t testing.TB) []Entry {
	t.Helper()
	entries, err := Corpus(corpusDir)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func texts(entries []Entry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Text)
	}
	return out
}

// testdata/refused.txt lists, for each line, the policies that its istiod does not take. Every file of the corpus but
// invalid.yaml is meant to be taken by the newest line, and nothing of invalid.yaml by any.
func TestRefused(t *testing.T) {
	entries := corpus(t)
	var out strings.Builder
	out.WriteString("What istiod does not take, by line of Istio. Each is an error of ours too.\n")
	for _, line := range Lines {
		response, err := line.Ask(t.Context(), &builder.Request{Objects: texts(entries)})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "\n-- %s --\n", line.Name)
		accepted := 0
		for i, e := range entries {
			why, refused := response.Refused[i]
			if refused {
				fmt.Fprintf(&out, "%s: %s\n", e.Policy.Name, strings.Join(strings.Fields(why), " "))
			} else {
				accepted++
			}
			if e.File == "invalid" && !refused {
				t.Errorf("%s: %s is taken", line.Name, e)
			}
			if e.File != "invalid" && e.File != "lines" && line.modfile == "" && refused {
				t.Errorf("%s: %s: %s", line.Name, e, why)
			}
		}
		t.Logf("%s takes %d of %d policies", line.Name, accepted, len(entries))
	}
	const file = "testdata/refused.txt"
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("not what %s says: run with -update and read the difference", file)
	}
}
