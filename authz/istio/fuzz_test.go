package istio

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"
	securityv1beta1 "istio.io/api/security/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/internal/fixture"
)

// Whatever a policy holds, the package answers: with an error, or with rules that package rbac takes. Seeds are the
// policies of the fixtures.
func FuzzCompile(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatal("no fixtures", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, sections := fixture.Parse(string(raw))
		policies, _ := readPolicies(f, sections["policies"])
		for i := range policies {
			wire, err := proto.Marshal(policies[i].Spec)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(wire, uint8(i), i%2 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte, choice uint8, dry bool) {
		p := Policy{Namespace: "default", Name: "p", Spec: &securityv1beta1.AuthorizationPolicy{}}
		if proto.Unmarshal(wire, p.Spec) != nil {
			return
		}
		before := proto.CloneOf(p.Spec)
		if dry {
			p.Annotations = map[string]string{DryRun: "true"}
		}
		target := helloworld
		target.Gateway = Object{Namespace: "default", Name: "waypoint"}
		target.Version = []Version{V124, V127, V132}[choice%3]
		target.TCP, target.Unvalidated = choice&4 != 0, choice&8 != 0
		if rules, err := Compile([]Policy{p}, target); err == nil {
			if _, err := rules.Chain(); err != nil && !target.Unvalidated {
				t.Errorf("package rbac refuses what the API server would take: %v", err)
			}
			rules.HTTPFilters()
		}
		m := Mesh{Version: target.Version, Partial: choice&16 != 0, Gateways: []Gateway{{Namespace: "default", Name: "waypoint"}}}
		m.WhoEnforces(&p)
		if !proto.Equal(before, p.Spec) {
			t.Error("the policy was changed")
		}
	})
}
