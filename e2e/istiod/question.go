package istiod

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/e2e/istiod/builder"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pkg/util/protomarshal"
	"sigs.k8s.io/yaml"
)

// Mesh is a mesh in which policies are looked at.
type Mesh struct {
	Name string
	// RootNamespace, TrustDomain and Aliases are Istio's defaults where they are empty.
	RootNamespace, TrustDomain string
	Aliases                    []string

	yaml      string // as istiod reads it
	providers []*meshv1alpha1.MeshConfig_ExtensionProvider
}

// newMesh completes a mesh with extension providers in YAML; "" for none.
func newMesh(m Mesh, providers string) (*Mesh, error) {
	fields := map[string]any{}
	if m.RootNamespace != "" {
		fields["rootNamespace"] = m.RootNamespace
	}
	if m.TrustDomain != "" {
		fields["trustDomain"] = m.TrustDomain
	}
	if len(m.Aliases) > 0 {
		fields["trustDomainAliases"] = m.Aliases
	}
	if len(fields) > 0 {
		out, err := yaml.Marshal(fields)
		if err != nil {
			return nil, err
		}
		m.yaml = string(out)
	}
	m.yaml += providers
	config := &meshv1alpha1.MeshConfig{}
	if err := protomarshal.ApplyYAML(m.yaml, config); err != nil {
		return nil, err
	}
	m.providers = config.GetExtensionProviders()
	return &m, nil
}

// Place is a chain of a waypoint.
type Place struct {
	Name    string
	Gateway builder.Gateway
	// Service is nil for a chain of workload traffic.
	Service *builder.Service
}

// Question is what is asked of both sides.
type Question struct {
	// Entries are indexes of the corpus, oldest first.
	Entries []int
	Mesh    *Mesh
	Place   *Place
	// MultipleProviders is the feature flag.
	MultipleProviders bool
}

// questionnaire is a request to istiod with the questions that it is made of.
type questionnaire struct {
	corpus      []*Entry
	questions   []Question
	unvalidated bool
}

func (q *questionnaire) request() *builder.Request {
	out := &builder.Request{Unvalidated: q.unvalidated}
	for _, e := range q.corpus {
		out.Objects = append(out.Objects, e.Text)
	}
	for _, c := range q.questions {
		out.Cases = append(out.Cases, builder.Case{
			Objects: c.Entries, Mesh: c.Mesh.yaml, MultipleProviders: c.MultipleProviders, Gateway: c.Place.Gateway, Service: c.Place.Service,
		})
	}
	return out
}

// target is the question's place in terms of package istio.
func (q *Question) target(v istio.Version) istio.Target {
	t := istio.Target{
		Version: v, RootNamespace: q.Mesh.RootNamespace,
		Gateway:   istio.Object{Namespace: q.Place.Gateway.Namespace, Name: q.Place.Gateway.Name},
		Providers: q.Mesh.providers, MultipleProviders: q.MultipleProviders, Hosts: map[string][]string{}, JWKS: fetch,
	}
	if q.Mesh.TrustDomain != "" || len(q.Mesh.Aliases) > 0 {
		t.TrustDomains = append([]string{q.Mesh.TrustDomain}, q.Mesh.Aliases...)
		if q.Mesh.TrustDomain == "" {
			t.TrustDomains[0] = "cluster.local"
		}
	}
	for _, s := range builder.Providers {
		t.Hosts[s.Hostname] = append(t.Hosts[s.Hostname], s.Namespace)
	}
	if s := q.Place.Service; s != nil {
		o := istio.Object{Kind: "Service", Namespace: s.Namespace, Name: s.Name}
		if s.External {
			o = istio.Object{Group: "networking.istio.io", Kind: "ServiceEntry", Namespace: s.Namespace, Name: s.Name}
		}
		t.Objects = []istio.Object{o}
	}
	return t
}

// fetch gets a key set as istiod does: what is not 200 is an error.
func fetch(uri string) (string, error) {
	response, err := http.Get(uri) //nolint:gosec,noctx // an address of the test's own
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", uri, response.Status)
	}
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// ours answers a question with package istio.
func (q *questionnaire) ours(c *Question, v istio.Version) (builder.Chain, error) {
	var policies []istio.Policy
	var tokens []istio.RequestAuthentication
	for _, i := range c.Entries {
		e := q.corpus[i]
		if e.Err != nil {
			return builder.Chain{}, e.Err
		}
		if e.Kind == "AuthorizationPolicy" {
			policies = append(policies, e.policy())
		} else {
			tokens = append(tokens, e.authentication())
		}
	}
	t := c.target(v)
	t.Unvalidated = q.unvalidated
	rules, err := istio.Compile(policies, t)
	if err != nil {
		return builder.Chain{}, err
	}
	authn, err := istio.Authenticate(tokens, t)
	if err != nil {
		return builder.Chain{}, err
	}
	var between []*hcmv3.HttpFilter
	if f := authn.HTTPFilter(); f != nil {
		between = append(between, f)
	}
	var out builder.Chain
	for _, f := range rules.HTTPFilters(between...) {
		out.HTTP = append(out.HTTP, filter(f.GetName(), f.GetTypedConfig()))
	}
	t.TCP = true
	if rules, err = istio.Compile(policies, t); err != nil {
		return builder.Chain{}, err
	}
	for _, f := range rules.NetworkFilters() {
		out.TCP = append(out.TCP, filter(f.GetName(), f.GetTypedConfig()))
	}
	return out, nil
}

func filter(name string, config *anypb.Any) builder.Filter {
	raw, err := proto.Marshal(config)
	if err != nil {
		panic(err) // package istio has marshalled what is in it a moment ago
	}
	return builder.Filter{Name: name, Config: raw}
}

// names lists what a question is about.
func (q *questionnaire) names(c *Question) []string {
	var out []string
	for _, i := range c.Entries {
		out = append(out, q.corpus[i].String())
	}
	return out
}

// describe says what is asked.
func (q *questionnaire) describe(c *Question) string {
	var texts []string
	for _, i := range c.Entries {
		texts = append(texts, q.corpus[i].Text)
	}
	return fmt.Sprintf("mesh %q, %s, several providers %v:\n%s", c.Mesh.Name, c.Place.Name, c.MultipleProviders, strings.Join(texts, "\n---\n"))
}
