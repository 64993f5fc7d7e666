package manifest

import (
	"fmt"
	"regexp"
	"strings"

	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/gowaypoint/gowaypoint/authz/istio"
)

// Set is what the input says. It is not changed after Load.
type Set struct {
	// Policies and Authentications are in the order of the input.
	Policies        []Policy
	Authentications []RequestAuthentication
	// Mesh is who could enforce them, as far as the input tells.
	Mesh istio.Mesh
	// MeshConfig is nil when the input has none.
	MeshConfig *meshconfig.MeshConfig
	// Chains are the filter chains of a config_dump or of istioctl, in their order. Most inputs have policies or chains.
	Chains []Chain
	// Ignored is what the input has besides.
	Ignored []Ignored
}

// Policy is an AuthorizationPolicy with its place.
type Policy struct {
	istio.Policy
	origin
}

// RequestAuthentication is a RequestAuthentication object with its place.
type RequestAuthentication struct {
	istio.RequestAuthentication
	origin
}

// Ignored is an object, or a file, that has nothing to do with policy.
type Ignored struct {
	Place
	What string // "ConfigMap shop/settings"
	Why  string
}

func (i Ignored) String() string { return fmt.Sprintf("%s: %s: %s", i.Place, i.What, i.Why) }

// origin knows the lines of an object's fields.
type origin struct {
	place Place
	root  *node
}

// At is the place of a field, such as spec.rules[0].to[1].operation.paths[0] or metadata.annotations[istio.io/dry-run]. For a
// field that is not written it is that of the nearest field above.
func (o origin) At(field string) Place {
	p := o.place
	if o.root != nil {
		p.Line = o.root.lineOf(field)
	}
	return p
}

// Has tells whether a field is written.
func (o origin) Has(field string) bool {
	if o.root == nil {
		return false
	}
	_, there := o.root.find(field)
	return there
}

// IstioPolicies are the policies as package istio takes them.
func (s *Set) IstioPolicies() []istio.Policy {
	out := make([]istio.Policy, len(s.Policies))
	for i := range s.Policies {
		out[i] = s.Policies[i].Policy
	}
	return out
}

// IstioAuthentications are the RequestAuthentications as package istio takes them.
func (s *Set) IstioAuthentications() []istio.RequestAuthentication {
	out := make([]istio.RequestAuthentication, len(s.Authentications))
	for i := range s.Authentications {
		out[i] = s.Authentications[i].RequestAuthentication
	}
	return out
}

// Policy finds a policy by name, nil if there is none.
func (s *Set) Policy(namespace, name string) *Policy {
	for i := range s.Policies {
		if p := &s.Policies[i]; p.Policy.Namespace == namespace && p.Policy.Name == name {
			return p
		}
	}
	return nil
}

// Locate finds the places of the fields that an error of package istio names, and returns it as [Errors].
func (s *Set) Locate(err error) error {
	var out Errors
	for _, one := range flatten(err) {
		e := &Error{Problem: one.Error()}
		if m := policyError.FindStringSubmatch(e.Problem); m != nil {
			at := func(string) Place { return Place{} }
			if p := s.Policy(m[2], m[3]); p != nil && m[1] == "AuthorizationPolicy" {
				at = p.At
			}
			for i := range s.Authentications {
				if a := &s.Authentications[i]; m[1] == "RequestAuthentication" && a.Namespace == m[2] && a.Name == m[3] {
					at = a.At
				}
			}
			field := m[4]
			if !strings.HasPrefix(field, "annotation") && field != "" {
				field = "spec." + field
			}
			e.Place, e.Object, e.Field, e.Problem = at(field), m[1]+" "+m[2]+"/"+m[3], field, m[5]
		}
		out = append(out, e)
	}
	return out
}

// policyError is the form of package istio's errors: kind, namespace, name, perhaps a field, and what is wrong.
var policyError = regexp.MustCompile(`^(AuthorizationPolicy|RequestAuthentication) ([^/ ]*)/([^: ]*): (?:([a-zA-Z]+[a-zA-Z0-9.\[\]]*): )?((?s:.*))$`)

func flatten(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the outermost list, not one further in
		var out []error
		for _, e := range many.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	return []error{err}
}
