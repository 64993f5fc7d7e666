package reverse_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
	"github.com/gowaypoint/gowaypoint/authz/x/reverse"
)

var target = istio.Target{
	Gateway: istio.Object{Namespace: "default", Name: "waypoint"},
	Objects: []istio.Object{{Kind: "Service", Namespace: "default", Name: "helloworld"}},
}

// fixtures of package istio, of which each is compared with istiod's own output elsewhere.
func fixtures(t *testing.T) map[string][]istio.Policy {
	t.Helper()
	files, err := filepath.Glob("../../istio/testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	out := map[string][]istio.Policy{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, found := strings.Cut(string(raw), "-- policies --\n")
		if !found {
			continue
		}
		text, _, _ := strings.Cut(rest, "\n-- ")
		// The kind is left out in those files.
		var sources []manifest.Source
		for _, doc := range strings.Split(text, "\n---\n") {
			if !strings.Contains(doc, "kind: RequestAuthentication") {
				sources = append(sources, manifest.Source{Name: filepath.Base(file), Data: []byte("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n" + doc)})
			}
		}
		set, err := manifest.Read(sources, manifest.Options{})
		if err != nil {
			continue // a fixture of what is refused
		}
		out[filepath.Base(file)] = set.IstioPolicies()
	}
	return out
}

// What istiod makes of a policy comes back as a policy, of which the same is made again (Policies checks that). So does every
// one of the fixtures, on HTTP and on TCP chains.
func TestRoundTrip(t *testing.T) {
	policies := 0
	for name, list := range fixtures(t) {
		for _, tcp := range []bool{false, true} {
			tgt := target
			tgt.TCP = tcp
			rules, err := istio.Compile(list, tgt)
			if err != nil {
				continue // a fixture of what is refused
			}
			var filters []reverse.Filter
			want := 0
			count := func(r *rbacv3.RBAC) { want += len(r.GetPolicies()) }
			for _, c := range rules.Custom {
				filters = append(filters, reverse.Filter{Rules: c.Enforced, Shadow: c.Shadow, Custom: true, TCP: tcp})
			}
			for _, p := range []istio.Pair{rules.Audit, rules.Deny, rules.Allow} {
				filters = append(filters, reverse.Filter{Rules: p.Enforced, Shadow: p.Shadow, TCP: tcp})
			}
			for _, f := range filters {
				count(f.Rules)
				count(f.Shadow)
			}
			got := 0
			for _, p := range reverse.Policies(filters) {
				policies++
				got += len(p.RBAC)
				gap := strings.Contains(p.Problem, "not in this chain") && tcp
				bad := strings.Contains(p.Problem, "could not be asked")
				if p.Problem != "" && !gap && !bad {
					t.Errorf("%s: %s/%s: %s\n%s", name, p.Namespace, p.Name, p.Problem, show(p.RBAC))
				}
			}
			if got != want {
				t.Errorf("%s: %d rules of %d", name, got, want)
			}
		}
	}
	if policies < 50 {
		t.Errorf("only %d policies were tried", policies)
	}
}

func show(rules map[string]*rbacv3.Policy) string {
	raw, err := protojson.MarshalOptions{Multiline: true}.Marshal(&rbacv3.RBAC{Policies: rules})
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// RBAC of another shape is never made a policy of.
func TestOtherShapes(t *testing.T) {
	for name, text := range map[string]string{
		"a name of its own":    `{"rules": {"policies": {"mine": {"permissions": [{"any": true}], "principals": [{"any": true}]}}}}`,
		"no and":               `{"rules": {"policies": {"ns[a]-policy[b]-rule[0]": {"permissions": [{"any": true}], "principals": [{"any": true}]}}}}`,
		"two rules of three":   `{"rules": {"policies": {"ns[a]-policy[b]-rule[2]": {"permissions": [{"and_rules": {"rules": [{"any": true}]}}], "principals": [{"and_ids": {"ids": [{"any": true}]}}]}}}}`,
		"a certificate":        `{"rules": {"policies": {"ns[a]-policy[b]-rule[0]": {"permissions": [{"and_rules": {"rules": [{"any": true}]}}], "principals": [{"and_ids": {"ids": [{"or_ids": {"ids": [{"authenticated": {"principal_name": {"exact": "spiffe://a"}}}]}}]}}]}}}}`,
		"paths before methods": `{"rules": {"policies": {"ns[a]-policy[b]-rule[0]": {"permissions": [{"and_rules": {"rules": [{"or_rules": {"rules": [{"url_path": {"path": {"exact": "/"}}}]}}, {"or_rules": {"rules": [{"header": {"name": ":method", "string_match": {"exact": "GET"}}}]}}]}}], "principals": [{"and_ids": {"ids": [{"any": true}]}}]}}}}`,
		"hosts in lower case":  `{"rules": {"policies": {"ns[a]-policy[b]-rule[0]": {"permissions": [{"and_rules": {"rules": [{"or_rules": {"rules": [{"header": {"name": ":authority", "string_match": {"exact": "a"}}}]}}]}}], "principals": [{"and_ids": {"ids": [{"any": true}]}}]}}}}`,
		"other regex":          `{"rules": {"policies": {"ns[a]-policy[b]-rule[0]": {"permissions": [{"and_rules": {"rules": [{"or_rules": {"rules": [{"url_path": {"path": {"safe_regex": {"regex": "/a|/b"}}}}]}}]}}], "principals": [{"and_ids": {"ids": [{"any": true}]}}]}}}}`,
	} {
		config := &httpv3.RBAC{}
		if !json.Valid([]byte(text)) {
			t.Fatalf("%s: not JSON", name)
		}
		if err := protojson.Unmarshal([]byte(text), config); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found := reverse.Policies([]reverse.Filter{{Rules: config.GetRules()}})
		if len(found) != 1 || found[0].Problem == "" || found[0].Spec.GetRules() != nil {
			t.Errorf("%s: %+v", name, found)
		} else {
			t.Logf("%s: %s", name, found[0].Problem)
		}
	}
}
