package istio

import (
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	securityv1beta1 "istio.io/api/security/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz"
)

func provided(t *testing.T, providers ...string) []*extensionProvider {
	t.Helper()
	var out []*extensionProvider
	for _, text := range providers {
		p := &extensionProvider{}
		if err := protojson.Unmarshal([]byte(text), p); err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// ask is a policy that has a provider asked about one port.
func ask(provider string) Policy {
	return Policy{Namespace: "default", Name: "ask", Spec: &securityv1beta1.AuthorizationPolicy{
		TargetRefs: []*typev1beta1.PolicyTargetReference{{Kind: "Service", Name: "helloworld"}},
		Action:     securityv1beta1.AuthorizationPolicy_CUSTOM,
		ActionDetail: &securityv1beta1.AuthorizationPolicy_Provider{
			Provider: &securityv1beta1.AuthorizationPolicy_ExtensionProvider{Name: provider},
		},
		Rules: []*securityv1beta1.Rule{{To: []*securityv1beta1.Rule_To{{Operation: &securityv1beta1.Operation{Ports: []string{"80"}}}}}},
	}}
}

var helloworld = Target{Objects: []Object{{Kind: "Service", Namespace: "default", Name: "helloworld"}}}

// What makes a provider one that cannot be asked. Everything that its policies match is denied then, and the reason is told.
func TestBadProviders(t *testing.T) {
	const good = `{"name": "p", "envoyExtAuthzGrpc": {"service": "a.b", "port": 1}}`
	for _, c := range []struct {
		version   Version
		providers []string
		want      string // "" for a provider that is asked
	}{
		{Newest, []string{good}, ""},
		{Newest, []string{`{"name": "p", "envoyExtAuthzHttp": {"service": "default/a.b", "port": 65535, "pathPrefix": "/x"}}`}, ""},
		{Newest, []string{`{"name": "p", "envoyExtAuthzHttp": {"service": "10.1.2.3", "port": 80}}`}, "no service 10.1.2.3 in the mesh"},
		{Newest, nil, `no extension provider "p"`},
		{Newest, []string{`{"name": "p", "prometheus": {}}`}, `no extension provider "p"`},
		{Newest, []string{`{"name": "p", "prometheus": {}}`, good}, ""},
		{Newest, []string{good, good}, "two of that name"},
		{Newest, []string{`{"name": "p", "envoyExtAuthzGrpc": {"service": "a.b"}}`}, "port 0"},
		{Newest, []string{`{"name": "p", "envoyExtAuthzGrpc": {"service": "a.b", "port": 65536}}`}, "port 65536"},
		{Newest, []string{`{"name": "p", "envoyExtAuthzGrpc": {"port": 1}}`}, "no service"},
		{Newest, []string{`{"name": "p", "envoyExtAuthzGrpc": {"service": "a_b.c", "port": 1}}`}, "a_b.c"},
		{Newest, []string{`{"name": "p", "envoyExtAuthzGrpc": {"service": "missing.b", "port": 1}}`}, "no service missing.b in the mesh"},
		{Newest, []string{`{"name": "p", "envoyExtAuthzGrpc": {"service": "other/a.b", "port": 1}}`}, "no service other/a.b in the mesh"},
		{Newest, []string{`{"name": "p", "envoyExtAuthzGrpc": {"service": "twice.b", "port": 1}}`}, "write namespace/twice.b"},
		{Newest, []string{`{"name": "p", "envoyExtAuthzGrpc": {"service": "y/twice.b", "port": 1}}`}, ""},
		{Newest, []string{`{"name": "p", "envoyExtAuthzGrpc": {"service": "a.b", "port": 1, "statusOnError": "999"}}`}, "statusOnError"},
		{Newest, []string{`{"name": "p", "envoyExtAuthzHttp": {"service": "a.b", "port": 1, "pathPrefix": "x"}}`}, "pathPrefix"},
		{Newest, []string{`{"name": "p", "envoyExtAuthzHttp": {"service": "a.b", "port": 1, "includeHeadersInCheck": ["*"]}}`}, "includeHeadersInCheck"},
		{Newest, []string{`{"name": "p", "envoyExtAuthzHttp": {"service": "a.b", "port": 1, "headersToUpstreamOnAllow": ["*"]}}`}, "headersToUpstreamOnAllow"},
	} {
		target := helloworld
		target.Version, target.Providers = c.version, provided(t, c.providers...)
		target.Hosts = map[string][]string{"a.b": {"default"}, "twice.b": {"x", "y"}}
		rules, err := Compile([]Policy{ask("p")}, target)
		if err != nil {
			t.Fatal(err)
		}
		got := rules.Custom[0]
		if (got.Bad == "") != (c.want == "") || !strings.Contains(got.Bad, c.want) || (got.HTTP == nil) != (c.want != "") {
			t.Errorf("%s: %q, want %q", c.providers, got.Bad, c.want)
		}
		if told := strings.Contains(strings.Join(noteTexts(rules), "\n"), "is denied"); told != (c.want != "") {
			t.Errorf("%s: notes %q", c.providers, rules.Notes)
		}
	}
}

// From 1.30 a provider's name becomes part of keys, and must be a DNS label.
func TestProviderNames(t *testing.T) {
	for name, ok := range map[string]bool{"a-1": true, "A": false, "a.b": false, "-a": false, "a-": false, strings.Repeat("a", 63): true, strings.Repeat("a", 64): false} {
		for _, v := range []Version{V127, V132} {
			target := helloworld
			target.Version = v
			target.Providers = provided(t, `{"name": "`+name+`", "envoyExtAuthzGrpc": {"service": "a.b", "port": 1}}`)
			rules, err := Compile([]Policy{ask(name)}, target)
			if err != nil {
				t.Fatal(err)
			}
			if asked := rules.Custom[0].Bad == ""; asked != (ok || v == V127) {
				t.Errorf("%s in %s: asked %v", name, v, asked)
			}
		}
	}
}

func noteTexts(r *Rules) (out []string) {
	for _, n := range r.Notes {
		out = append(out, n.String())
	}
	return out
}

// A chain says whom to ask, and denies where nobody can be asked.
func TestCustomChain(t *testing.T) {
	target := helloworld
	target.Providers = provided(t, `{"name": "p", "envoyExtAuthzGrpc": {"service": "a.b", "port": 1}}`)
	for _, c := range []struct {
		provider string
		port     uint16
		allowed  bool
		asked    string
		policy   string
	}{
		{"p", 80, true, "istio-ext-authz-p-ns[default]-policy[ask]-rule[0]", ""},
		{"p", 81, true, "", ""},
		{"q", 80, false, "", "istio-ext-authz-q-ns[default]-policy[ask]-rule[0]-deny-due-to-bad-CUSTOM-action"},
		{"q", 81, true, "", ""},
	} {
		for _, tcp := range []bool{false, true} {
			target.TCP = tcp
			rules, err := Compile([]Policy{ask(c.provider)}, target)
			if err != nil {
				t.Fatal(err)
			}
			chain, err := rules.Chain()
			if err != nil {
				t.Fatal(err)
			}
			v := chain.Decide(&authz.Request{HTTP: !tcp, Destination: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), c.port)})
			asked := ""
			if v.Custom != nil {
				asked = v.Custom.Policy
			}
			if v.Allowed != c.allowed || asked != c.asked || v.Policy != c.policy {
				t.Errorf("%+v: allowed %v, asked %q, policy %q", c, v.Allowed, asked, v.Policy)
			}
		}
	}
}

// Text that is not UTF-8 cannot be sent, and is refused rather than left out.
func TestNotUTF8(t *testing.T) {
	p := ask("p")
	p.Spec.Rules[0].To[0].Operation.Paths = []string{"/\xff"}
	if _, err := Compile([]Policy{p}, helloworld); err == nil || !strings.Contains(err.Error(), "default/ask: ") {
		t.Error(err)
	}
	p = ask("p")
	p.Name = "\xff"
	if _, err := Compile([]Policy{p}, helloworld); err == nil {
		t.Error("no error")
	}
}
