package istio

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/gowaypoint/gowaypoint/authz/internal/fixture"
)

// meshFile is a mesh as the fixtures write it.
type meshFile struct {
	Mesh
	Version   string
	Workloads []struct {
		Workload
		Mode string // ambient, sidecar, none, or unknown
	}
	Policies string // a YAML stream
}

func (f meshFile) mesh(t *testing.T) *Mesh {
	t.Helper()
	m := f.Mesh
	var err error
	if m.Version, err = ParseVersion(f.Version); err != nil {
		t.Fatal(err)
	}
	for _, w := range f.Workloads {
		mode, ok := map[string]Mode{"ambient": Ambient, "sidecar": HasSidecar, "none": NotInMesh, "unknown": ModeUnknown}[w.Mode]
		if !ok {
			t.Fatalf("mode %q", w.Mode)
		}
		w.Workload.Mode = mode
		m.Workloads = append(m.Workloads, w.Workload)
	}
	if f.Policies != "" {
		m.Policies, _ = readPolicies(t, f.Policies)
	}
	return &m
}

// Each fixture begins with prose. Then sections follow one another: a `mesh`, and after it each `policy` with the `answer`.
func TestWhoEnforces(t *testing.T) {
	files, err := filepath.Glob("testdata/enforce/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	var seen []Trap
	ran := 0
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			ran++
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			var m *Mesh
			for i, section := range strings.Split("\n"+string(raw), "\n-- ") {
				name, body, _ := strings.Cut(section, " --\n")
				switch {
				case i == 0:
					out.WriteString(strings.TrimPrefix(section, "\n"))
					continue
				case name == "answer":
					continue
				}
				body = strings.TrimSuffix(body, "\n")
				fmt.Fprintf(&out, "\n-- %s --\n%s", name, body)
				if name == "mesh" {
					var f meshFile
					if err := yaml.UnmarshalStrict([]byte(body), &f); err != nil {
						t.Fatal(err)
					}
					m = f.mesh(t)
					continue
				}
				policies, _ := readPolicies(t, body)
				e := m.WhoEnforces(&policies[0])
				seen = append(seen, e.Traps...)
				out.WriteString("\n-- answer --\n" + strings.TrimSuffix(answer(e), "\n"))
			}
			out.WriteString("\n")
			fixture.Check(t, file, string(raw), out.String())
		})
	}
	if ran < len(files) {
		return // -run picked some
	}
	argument := regexp.MustCompile(`\\\{\d\\\}`)
	for _, kind := range traps {
		says := regexp.MustCompile("^" + argument.ReplaceAllString(regexp.QuoteMeta(kind.text), ".+") + "$")
		if !slices.ContainsFunc(seen, func(t Trap) bool { return t.ID == kind.id && says.MatchString(t.Text) }) {
			t.Errorf("no fixture falls into trap %s: %s", kind.id, kind.text)
		}
	}
}

func answer(e Enforcement) string {
	var b strings.Builder
	for _, by := range e.By {
		what := "connections only"
		if by.L7 {
			what = "HTTP"
		}
		fmt.Fprintf(&b, "%s: %s guards %s, %s\n", by.Enforcer, by.Name, by.Guards, what)
	}
	if len(e.By) == 0 {
		b.WriteString(ByNobody.String() + "\n")
	}
	for _, o := range e.Unknown {
		fmt.Fprintf(&b, "unknown: %s\n", o)
	}
	for _, t := range e.Traps {
		fmt.Fprintf(&b, "%s", t.ID)
		if t.Field != "" {
			fmt.Fprintf(&b, " at %s", t.Field)
		}
		fmt.Fprintf(&b, "\n  %s\n  Fix: %s\n", t.Text, t.Fix)
	}
	return b.String()
}
