package istio

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	securityv1beta1 "istio.io/api/security/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/gowaypoint/gowaypoint/authz/internal/fixture"
)

// settings of a fixture's target, over those that all have.
type settings struct {
	Version, WaypointNamespace string
	TrustDomains               []string
	Unvalidated                bool
	Providers                  []json.RawMessage // of meshConfig.extensionProviders
	Hosts                      map[string][]string
	MultipleProviders          bool
	JWKS                       map[string]string // what there is to fetch, by URI
	JWKSFetch                  JWKSFetch
}

func (s settings) target(t *testing.T) Target {
	t.Helper()
	v, err := ParseVersion(s.Version)
	if err != nil {
		t.Fatal(err)
	}
	out := Target{
		Version:      v,
		Gateway:      Object{Namespace: "default", Name: "waypoint"},
		Objects:      []Object{{Kind: "Service", Namespace: "default", Name: "helloworld"}},
		TrustDomains: s.TrustDomains, Unvalidated: s.Unvalidated, Hosts: s.Hosts, MultipleProviders: s.MultipleProviders, JWKSFetch: s.JWKSFetch,
	}
	if s.WaypointNamespace != "" {
		out.Gateway.Namespace = s.WaypointNamespace
	}
	for _, raw := range s.Providers {
		p := &extensionProvider{}
		if err := protojson.Unmarshal(raw, p); err != nil {
			t.Fatal(err)
		}
		out.Providers = append(out.Providers, p)
	}
	if s.JWKS != nil {
		out.JWKS = func(uri string) (string, error) {
			if body, ok := s.JWKS[uri]; ok {
				return body, nil
			}
			return "", fmt.Errorf("GET %s: 404", uri)
		}
	}
	return out
}

// Each fixture begins with prose. Section `target` holds settings and `policies` a YAML stream of AuthorizationPolicy and
// RequestAuthentication objects; `http`, `tcp` and `jwt` are the expected output.
func TestFixtures(t *testing.T) {
	fixture.Run(t, "testdata/*.txt", func(t *testing.T, text string) string {
		prose, sections := fixture.Parse(text)
		var s settings
		if err := yaml.UnmarshalStrict([]byte(sections["target"]), &s); err != nil {
			t.Fatal(err)
		}
		tgt := s.target(t)
		policies, authentications := readPolicies(t, sections["policies"])
		var out strings.Builder
		out.WriteString(prose)
		if sections["target"] != "" {
			out.WriteString("-- target --\n" + sections["target"])
		}
		out.WriteString("-- policies --\n" + sections["policies"])
		if len(policies) > 0 {
			for _, layer := range []string{"http", "tcp"} {
				tgt.TCP = layer == "tcp"
				fmt.Fprintf(&out, "-- %s --\n%s", layer, render(t, policies, tgt))
			}
		}
		if len(authentications) > 0 {
			tgt.TCP = false
			fmt.Fprintf(&out, "-- jwt --\n%s", renderJWT(t, authentications, tgt))
		}
		return out.String()
	})
}

// render compiles, and checks that what comes out can be decided with.
func render(t *testing.T, policies []Policy, tgt Target) string {
	t.Helper()
	rules, err := Compile(policies, tgt)
	if err != nil {
		return "error: " + strings.ReplaceAll(err.Error(), "\n", "\nerror: ") + "\n"
	}
	if _, err := rules.Chain(); err != nil {
		t.Errorf("package rbac refuses the result: %v", err)
	}
	var out strings.Builder
	if tgt.TCP {
		for _, f := range rules.NetworkFilters() {
			writeFilter(t, &out, f.GetName(), f.GetTypedConfig())
		}
	} else {
		for _, f := range rules.HTTPFilters() {
			writeFilter(t, &out, f.GetName(), f.GetTypedConfig())
		}
	}
	for _, s := range rules.Skipped {
		out.WriteString("skipped: " + s.String() + "\n")
	}
	for _, n := range rules.Notes {
		out.WriteString("note: " + n.String() + "\n")
	}
	return out.String()
}

func renderJWT(t *testing.T, objects []RequestAuthentication, tgt Target) string {
	t.Helper()
	a, err := Authenticate(objects, tgt)
	if err != nil {
		return "error: " + strings.ReplaceAll(err.Error(), "\n", "\nerror: ") + "\n"
	}
	var out strings.Builder
	if f := a.HTTPFilter(); f != nil {
		writeFilter(t, &out, f.GetName(), f.GetTypedConfig())
	}
	for _, s := range a.Skipped {
		out.WriteString("skipped: " + s.String() + "\n")
	}
	for _, n := range a.Notes {
		out.WriteString("note: " + n.String() + "\n")
	}
	return out.String()
}

func writeFilter(t *testing.T, out *strings.Builder, name string, config *anypb.Any) {
	t.Helper()
	m, err := config.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, raw, "", " "); err != nil { // protojson's own spaces vary on purpose
		t.Fatal(err)
	}
	out.WriteString(name + " " + pretty.String() + "\n")
}

func readPolicies(t testing.TB, text string) (policies []Policy, authentications []RequestAuthentication) {
	t.Helper()
	for _, doc := range strings.Split(text, "\n---\n") {
		var o struct {
			Kind     string
			Metadata struct {
				Name, Namespace string
				Annotations     map[string]string
			}
			Spec json.RawMessage
		}
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatal(err)
		}
		ns := o.Metadata.Namespace
		if ns == "" {
			ns = "default"
		}
		var spec proto.Message
		if o.Kind == "RequestAuthentication" {
			a := RequestAuthentication{Namespace: ns, Name: o.Metadata.Name, Spec: &securityv1beta1.RequestAuthentication{}}
			authentications, spec = append(authentications, a), a.Spec
		} else {
			p := Policy{Namespace: ns, Name: o.Metadata.Name, Annotations: o.Metadata.Annotations, Spec: &securityv1beta1.AuthorizationPolicy{}}
			policies, spec = append(policies, p), p.Spec
		}
		if len(o.Spec) > 0 {
			if err := protojson.Unmarshal(o.Spec, spec); err != nil {
				t.Fatal(err)
			}
		}
	}
	return policies, authentications
}
