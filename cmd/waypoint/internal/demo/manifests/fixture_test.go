package manifests

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// In testdata/*.txt each section `-- name --` is a file of manifests that is added to base.yaml, and `>` lines after it say what
// became of it: the error, or what the mesh is. Every section is a case of its own.
func TestFixtures(t *testing.T) {
	base, err := os.ReadFile("testdata/base.yaml")
	if err != nil {
		t.Fatal(err)
	}
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
			var out strings.Builder
			for i, section := range strings.Split(string(raw), "-- case --\n") {
				if i == 0 {
					out.WriteString(section)
					continue
				}
				var input strings.Builder
				for line := range strings.Lines(section) {
					if !strings.HasPrefix(line, "> ") {
						input.WriteString(line)
					}
				}
				out.WriteString("-- case --\n" + input.String())
				list := []File{{"base.yaml", base}, {"case.yaml", []byte(input.String())}}
				if strings.HasPrefix(file, "testdata/alone") {
					list = list[1:]
				}
				mesh, err := Load(list)
				result := ""
				if err != nil {
					result = err.Error()
				} else {
					result = describe(mesh)
				}
				for line := range strings.Lines(result + "\n") {
					out.WriteString("> " + line)
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if out.String() != string(raw) {
				t.Errorf("got:\n%s\nwant:\n%s", out.String(), raw)
			}
		})
	}
}

func describe(m *Mesh) string {
	var out []string
	for _, s := range m.Services {
		line := fmt.Sprintf("service %s %s", s.Host(), s.VIP)
		for i := range s.Ports {
			p := &s.Ports[i]
			line += fmt.Sprintf(" %d/%d", p.Number, p.Protocol)
			for _, pod := range m.Endpoints(s) {
				line += fmt.Sprintf(" %s:%d", pod.Name, p.Target(pod))
			}
		}
		out = append(out, line)
	}
	for _, s := range m.Direct {
		out = append(out, "direct "+s.Host())
	}
	for _, p := range m.Pods {
		canonical, revision := p.Canonical()
		out = append(out, fmt.Sprintf("pod %s/%s %s as %s workload %s (%s %s) hbone %v", p.Namespace, p.Name, p.IP, p.Account, p.Workload, canonical, revision, p.HBONE))
	}
	for _, r := range m.Routes {
		out = append(out, fmt.Sprintf("route %s/%s %v %d rules", r.Namespace, r.Name, r.Parents, len(r.Rules)))
	}
	for _, p := range m.Policies {
		out = append(out, fmt.Sprintf("policy %s/%s %s", p.Namespace, p.Name, p.Spec.GetAction()))
	}
	return strings.Join(out, "\n")
}
