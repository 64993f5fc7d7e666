package manifest

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gowaypoint/gowaypoint/authz/internal/fixture"
)

// Each fixture begins with prose. Then come cases: the files of one input as sections `-- name --`, and after `-- result --` the
// errors, or what the set is. A line `-- case: … --` begins the next one.
func TestFixtures(t *testing.T) {
	fixture.Run(t, "testdata/*.txt", func(t *testing.T, text string) string {
		var out strings.Builder
		var sources []Source
		skipping := false
		finish := func() {
			if sources != nil {
				out.WriteString("-- result --\n" + result(sources))
			}
			sources = nil
		}
		for line := range strings.Lines(text) {
			name, ok := strings.CutPrefix(line, "-- ")
			name, end := strings.CutSuffix(name, " --\n")
			switch {
			case !ok || !end:
				if skipping {
					continue
				}
				if len(sources) > 0 {
					s := &sources[len(sources)-1]
					s.Data = append(s.Data, line...)
				}
			case name == "result":
				skipping = true
				continue
			case strings.HasPrefix(name, "case"):
				finish()
				skipping = false
			default:
				skipping = false
				sources = append(sources, Source{Name: name, Data: []byte{}})
			}
			out.WriteString(line)
		}
		finish()
		return out.String()
	})
}

func result(sources []Source) string {
	set, err := Read(sources, Options{})
	if err != nil {
		return err.Error() + "\n"
	}
	return describe(set)
}

func describe(s *Set) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	for i := range s.Policies {
		p := &s.Policies[i]
		line("%s: policy %s/%s %s", p.At(""), p.Namespace, p.Name, p.Spec.GetAction())
		for j := range p.Spec.GetRules() {
			line("  rule %d at line %d", j, p.At(fmt.Sprintf("spec.rules[%d]", j)).Line)
		}
	}
	for i := range s.Authentications {
		a := &s.Authentications[i]
		line("%s: authentication %s/%s", a.At(""), a.Namespace, a.Name)
	}
	for _, g := range s.Mesh.Gateways {
		line("gateway %s/%s %s %s", g.Namespace, g.Name, g.Class, g.For)
	}
	for _, svc := range s.Mesh.Services {
		line("service %s selects %v ports %v by %v", ObjectName(svc.Object), svc.Selector, svc.Ports, svc.Waypoint)
	}
	for _, w := range s.Mesh.Workloads {
		line("workload %s/%s %v as %s, %s, by %v", w.Namespace, w.Name, w.Labels, w.ServiceAccount, [...]string{"not in the mesh", "ambient", "sidecar", "unknown"}[w.Mode], w.Waypoint)
	}
	if s.MeshConfig != nil {
		line("mesh config %s", strings.ReplaceAll(protojson.MarshalOptions{}.Format(s.MeshConfig), " ", ""))
		line("root namespace %s, trust domains %v, paths %s", s.RootNamespace(), s.TrustDomains(), s.PathNormalization())
	}
	for i := range s.Chains {
		c := &s.Chains[i]
		line("%s: chain %s http %v path %+v", c.Where, c, c.HTTP, c.Path)
		for _, f := range c.Filters {
			line("  %d %s %s rbac %v", f.Where.Line, f.Name, f.Type, f.HTTP != nil || f.Network != nil)
		}
		if _, err := c.Compile(); err != nil {
			line("  %v", err)
		}
	}
	for _, i := range s.Ignored {
		line("ignored %s", i)
	}
	return b.String()
}
