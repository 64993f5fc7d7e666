package manifests

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// File is a YAML or JSON file of one or several documents.
type File struct {
	Name string
	Data []byte
}

// ReadDir reads the manifests of a directory, without its subdirectories, by name.
func ReadDir(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, err
	}
	var out []File
	for _, e := range entries {
		if !IsManifest(e.Name()) || e.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, File{e.Name(), b})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no manifests there (*.yaml, *.yml, *.json)", dir)
	}
	return out, nil
}

// IsManifest tells by its name whether a file is one.
func IsManifest(name string) bool {
	ext := filepath.Ext(name)
	return (ext == ".yaml" || ext == ".yml" || ext == ".json") && !strings.HasPrefix(filepath.Base(name), ".")
}

// document is one object with its place, for errors.
type document struct {
	head
	at string // "policies.yaml, document 2 (AuthorizationPolicy default/allow-get)"
}

func (d *document) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %w", d.at, fmt.Errorf(format, args...))
}

// spec decodes the spec strictly.
func (d *document) spec(into any) error {
	if len(d.Spec) == 0 {
		return nil
	}
	if err := decodeStrict(d.Spec, into); err != nil {
		return fmt.Errorf("%s: spec.%w", d.at, err)
	}
	return nil
}

// reader collects what the documents say before it is put together.
type reader struct {
	mesh       Mesh
	namespaces map[string]map[string]string // labels
	services   []loadedService
	pods       []*Pod
	gateways   []*document
	policies   *manifest.Set
	seen       map[string]string
}

// Load reads the manifests. The error lists all that is wrong.
func Load(files []File) (*Mesh, error) {
	r := &reader{namespaces: map[string]map[string]string{}, seen: map[string]string{}}
	var errs []error
	for _, f := range files {
		texts, _ := manifest.Split(f.Data)
		for i, text := range texts {
			if err := r.document(f.Name, i+1, text); err != nil {
				errs = append(errs, err)
			}
		}
	}
	errs = append(errs, r.readPolicies(files)...)
	if len(errs) == 0 {
		errs = r.finish()
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &r.mesh, nil
}

func (r *reader) document(file string, n int, text []byte) error {
	d := &document{at: fmt.Sprintf("%s, document %d", file, n)}
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return d.errorf("%w", err)
	}
	if string(raw) == "null" {
		return nil // comments only
	}
	if err := decodeStrict(raw, &d.head); err != nil {
		return d.errorf("%w", err)
	}
	if d.Metadata.Name == "" {
		return d.errorf("metadata.name: missing")
	}
	clusterScoped := d.Kind == "Namespace"
	if d.Metadata.Namespace == "" && !clusterScoped {
		d.Metadata.Namespace = "default"
	}
	key := strings.TrimPrefix(d.Metadata.Namespace+"/"+d.Metadata.Name, "/")
	d.at += fmt.Sprintf(" (%s %s)", d.Kind, key)
	if other, ok := r.seen[d.Kind+" "+key]; ok {
		return d.errorf("defined twice; first in %s", other)
	}
	r.seen[d.Kind+" "+key] = d.at
	return r.object(d)
}

func (r *reader) object(d *document) error {
	group, _, ok := strings.Cut(d.APIVersion, "/")
	if !ok {
		group = ""
	}
	switch d.Kind + "." + group {
	case "Namespace.":
		r.namespaces[d.Metadata.Name] = d.Metadata.Labels
		return d.spec(&namespaceSpec{})
	case "ServiceAccount.":
		r.mesh.Accounts = append(r.mesh.Accounts, Account{d.Metadata.Namespace, d.Metadata.Name})
		return nil
	case "Service.":
		return r.service(d)
	case "Pod.":
		return r.pod(d)
	case "Deployment.apps":
		return r.deployment(d)
	case "Gateway.gateway.networking.k8s.io":
		r.gateways = append(r.gateways, d)
		return nil
	case "HTTPRoute.gateway.networking.k8s.io":
		return r.httpRoute(d)
	case "AuthorizationPolicy.security.istio.io":
		return nil // readPolicies
	}
	return d.errorf("kind %s of apiVersion %s is not supported by the demo; supported are Namespace, ServiceAccount, Service, Pod, Deployment, "+
		"Gateway, HTTPRoute and AuthorizationPolicy", d.Kind, d.APIVersion)
}

// finish puts the parts together that refer to each other.
func (r *reader) finish() []error {
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	note(r.gateway())
	note(r.placeServices())
	r.placePods()
	for _, route := range r.mesh.Routes {
		note(r.checkRoute(route))
	}
	for _, p := range r.mesh.Pods {
		r.mesh.Accounts = append(r.mesh.Accounts, p.Account)
	}
	slices.SortFunc(r.mesh.Accounts, func(a, b Account) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	r.mesh.Accounts = slices.Compact(r.mesh.Accounts)
	r.addClients()
	if len(errs) == 0 {
		errs = r.checkPolicies()
	}
	return errs
}

// gateway checks that there is one waypoint.
func (r *reader) gateway() error {
	if len(r.gateways) == 0 {
		return errors.New("no Gateway with gatewayClassName istio-waypoint: the demo needs one waypoint")
	}
	for i, d := range r.gateways {
		var s gatewaySpec
		if err := d.spec(&s); err != nil {
			return err
		}
		if s.GatewayClassName != "istio-waypoint" {
			return d.errorf("spec.gatewayClassName: %q; the demo runs a waypoint: istio-waypoint", s.GatewayClassName)
		}
		if i > 0 {
			return d.errorf("a second waypoint; the demo runs one, %s/%s", r.mesh.Waypoint.Namespace, r.mesh.Waypoint.Name)
		}
		if l := s.Listeners; len(l) != 1 || l[0].Port != 15008 || l[0].Protocol != "HBONE" {
			return d.errorf("spec.listeners: a waypoint has one listener, with port 15008 and protocol HBONE")
		}
		if f := d.Metadata.Labels["istio.io/waypoint-for"]; f != "" && f != "service" {
			return d.errorf("metadata.labels[istio.io/waypoint-for]: %q; the demo leads traffic of services only", f)
		}
		r.mesh.Waypoint = Waypoint{d.Metadata.Namespace, d.Metadata.Name}
	}
	return nil
}

// checkPolicies refuses policies that the demo cannot enforce anywhere: it has no ztunnel that looks at selectors.
func (r *reader) checkPolicies() []error {
	w := r.mesh.Waypoint
	t := istio.Target{Gateway: istio.Object{Namespace: w.Namespace, Name: w.Name}}
	for _, s := range r.mesh.Services {
		t.Objects = append(t.Objects, istio.Object{Kind: "Service", Namespace: s.Namespace, Name: s.Name})
	}
	var errs []error
	for _, p := range r.mesh.Policies {
		at := r.seen["AuthorizationPolicy "+p.Namespace+"/"+p.Name]
		rules, err := istio.Compile([]istio.Policy{p}, t)
		if err != nil {
			errs = append(errs, r.policies.Locate(err))
			continue
		}
		for _, s := range rules.Skipped {
			why := s.Why
			if why == "targets other objects" {
				why = "targets neither the waypoint nor a Service that uses it"
			}
			errs = append(errs, fmt.Errorf("%s: %s", at, why))
		}
		for _, n := range rules.Notes {
			errs = append(errs, fmt.Errorf("%s: %s", at, n.Text))
		}
	}
	return errs
}
