package istio

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	securityv1beta1 "istio.io/api/security/v1beta1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// target of all fixtures.
var target = Target{
	Gateway: Object{Namespace: "default", Name: "waypoint"},
	Objects: []Object{{Kind: "Service", Namespace: "default", Name: "helloworld"}},
}

// Each fixture begins with prose. Section `policies` is a YAML stream of AuthorizationPolicy objects and `trust domains` a line
// of them; `http`, `tcp`, `skipped` and `error` are the expected output.
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
			tgt := target
			tgt.TrustDomains = strings.Fields(sections["trust domains"])
			policies := readPolicies(t, sections["policies"])
			var out strings.Builder
			out.WriteString(prose + "-- policies --\n" + sections["policies"])
			if len(tgt.TrustDomains) > 0 {
				out.WriteString("-- trust domains --\n" + sections["trust domains"])
			}
			for _, layer := range []string{"http", "tcp"} {
				tgt.TCP = layer == "tcp"
				fmt.Fprintf(&out, "-- %s --\n%s", layer, render(t, policies, tgt))
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

// render compiles, and checks that what comes out can be decided with.
func render(t *testing.T, policies []Policy, tgt Target) string {
	t.Helper()
	rules, err := Compile(policies, tgt)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	if _, err := rules.Filters(); err != nil {
		t.Errorf("package rbac refuses the result: %v", err)
	}
	var out strings.Builder
	var configs []proto.Message
	for _, c := range rules.HTTP() {
		configs = append(configs, c)
	}
	if tgt.TCP {
		configs = nil
		for _, c := range rules.Network() {
			configs = append(configs, c)
		}
	}
	for _, c := range configs {
		raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, raw, "", " "); err != nil { // protojson's own spaces vary on purpose
			t.Fatal(err)
		}
		out.WriteString(pretty.String() + "\n")
	}
	for _, s := range rules.Skipped {
		out.WriteString("skipped: " + s.String() + "\n")
	}
	return out.String()
}

func parse(text string) (prose string, sections map[string]string) {
	sections, current := map[string]string{}, ""
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(name, " --") {
			current = strings.TrimSuffix(name, " --")
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

func readPolicies(t *testing.T, text string) []Policy {
	t.Helper()
	var out []Policy
	for _, doc := range strings.Split(text, "\n---\n") {
		var o struct {
			Metadata struct {
				Name, Namespace string
				Annotations     map[string]string
			}
			Spec json.RawMessage
		}
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatal(err)
		}
		p := Policy{Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Annotations: o.Metadata.Annotations, Spec: &securityv1beta1.AuthorizationPolicy{}}
		if p.Namespace == "" {
			p.Namespace = "default"
		}
		if len(o.Spec) > 0 {
			if err := protojson.Unmarshal(o.Spec, p.Spec); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, p)
	}
	return out
}
