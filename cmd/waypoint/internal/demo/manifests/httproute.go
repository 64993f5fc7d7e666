package manifests

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Route is an HTTPRoute of Services.
type Route struct {
	Namespace, Name string
	Parents         []Parent
	Rules           []Rule
	doc             *document
}

// Parent is a service that a route is for. Port 0: all of its ports.
type Parent struct {
	Namespace, Name string
	Port            uint16
}

// Rule is one rule of a route.
type Rule struct {
	Name     string // "" : none
	Matches  []Match
	Filters  []Filter
	Backends []Backend
	Timeout  time.Duration // 0: none
}

// Match is what a request has to look like; all parts have to hold.
type Match struct {
	Path    *PathMatch   `json:"path"`
	Headers []ValueMatch `json:"headers"`
	Query   []ValueMatch `json:"queryParams"`
	Method  string       `json:"method"`
}

// PathMatch has Type Exact, PathPrefix (default) or RegularExpression.
type PathMatch struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// ValueMatch is for a header or a query parameter; Type is Exact (default) or RegularExpression.
type ValueMatch struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Filter changes what passes. The field that belongs to Type is set.
type Filter struct {
	Type     string          `json:"type"`
	Request  *HeaderModifier `json:"requestHeaderModifier"`
	Response *HeaderModifier `json:"responseHeaderModifier"`
	Redirect *Redirect       `json:"requestRedirect"`
	Rewrite  *Rewrite        `json:"urlRewrite"`
}

// HeaderModifier sets, adds and removes headers.
type HeaderModifier struct {
	Set    []Header `json:"set"`
	Add    []Header `json:"add"`
	Remove []string `json:"remove"`
}

// Header is a name and a value.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Redirect answers with a Location.
type Redirect struct {
	Scheme     string        `json:"scheme"`
	Hostname   string        `json:"hostname"`
	Path       *PathModifier `json:"path"`
	Port       uint16        `json:"port"`
	StatusCode int           `json:"statusCode"`
}

// Rewrite changes host and path before the request is sent on.
type Rewrite struct {
	Hostname string        `json:"hostname"`
	Path     *PathModifier `json:"path"`
}

// PathModifier has Type ReplaceFullPath or ReplacePrefixMatch.
type PathModifier struct {
	Type   string `json:"type"`
	Full   string `json:"replaceFullPath"`
	Prefix string `json:"replacePrefixMatch"`
}

// Backend is where a part of the requests goes.
type Backend struct {
	Namespace, Name string
	Port            uint16
	Weight          uint32
}

type httpRouteSpec struct {
	ParentRefs []parentRef `json:"parentRefs"`
	Rules      []routeRule `json:"rules"`
}

type parentRef struct {
	Group     *string `json:"group"`
	Kind      *string `json:"kind"`
	Namespace string  `json:"namespace"`
	Name      string  `json:"name"`
	Port      uint16  `json:"port"`
}

type routeRule struct {
	Name        string       `json:"name"`
	Matches     []Match      `json:"matches"`
	Filters     []Filter     `json:"filters"`
	BackendRefs []backendRef `json:"backendRefs"`
	Timeouts    struct {
		Request        string `json:"request"`
		BackendRequest string `json:"backendRequest"`
	} `json:"timeouts"`
}

type backendRef struct {
	Group     string  `json:"group"`
	Kind      string  `json:"kind"`
	Namespace string  `json:"namespace"`
	Name      string  `json:"name"`
	Port      uint16  `json:"port"`
	Weight    *uint32 `json:"weight"`
}

func (r *reader) httpRoute(d *document) error {
	var spec httpRouteSpec
	if err := d.spec(&spec); err != nil {
		return err
	}
	out := &Route{Namespace: d.Metadata.Namespace, Name: d.Metadata.Name, doc: d}
	for i, p := range spec.ParentRefs {
		if p.Kind == nil || *p.Kind != "Service" || p.Group == nil || *p.Group != "" && *p.Group != "core" {
			return d.errorf("spec.parentRefs[%d]: the routes of a waypoint have Services as parents: group \"\" and kind Service", i)
		}
		if p.Namespace != "" && p.Namespace != out.Namespace {
			return d.errorf("spec.parentRefs[%d].namespace: a route for a Service of another namespace is not supported", i)
		}
		out.Parents = append(out.Parents, Parent{out.Namespace, p.Name, p.Port})
	}
	if len(out.Parents) == 0 {
		return d.errorf("spec.parentRefs: missing")
	}
	for i, rule := range spec.Rules {
		got, err := rule.compile(out.Namespace)
		if err != nil {
			return d.errorf("spec.rules[%d].%w", i, err)
		}
		out.Rules = append(out.Rules, got)
	}
	r.mesh.Routes = append(r.mesh.Routes, out)
	return nil
}

func (in *routeRule) compile(namespace string) (Rule, error) {
	out := Rule{Name: in.Name, Matches: in.Matches, Filters: in.Filters}
	if len(out.Matches) == 0 {
		out.Matches = []Match{{}}
	}
	for i := range out.Matches {
		if err := out.Matches[i].check(); err != nil {
			return out, fmt.Errorf("matches[%d].%w", i, err)
		}
	}
	for i := range out.Filters {
		if err := out.Filters[i].check(); err != nil {
			return out, fmt.Errorf("filters[%d].%w", i, err)
		}
	}
	for i, b := range in.BackendRefs {
		switch {
		case b.Group != "" && b.Group != "core" || b.Kind != "" && b.Kind != "Service":
			return out, fmt.Errorf("backendRefs[%d].kind: %s is not supported; Service is", i, b.Kind)
		case b.Namespace != "" && b.Namespace != namespace:
			return out, fmt.Errorf("backendRefs[%d].namespace: another namespace needs a ReferenceGrant, which is not supported", i)
		case b.Port == 0:
			return out, fmt.Errorf("backendRefs[%d].port: missing", i)
		}
		weight := uint32(1)
		if b.Weight != nil {
			weight = *b.Weight
		}
		out.Backends = append(out.Backends, Backend{namespace, b.Name, b.Port, weight})
	}
	// istiod uses backendRequest per try where there are retries, and as the whole timeout where there are none, as here.
	if text := cmp.Or(in.Timeouts.BackendRequest, in.Timeouts.Request); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return out, fmt.Errorf("timeouts: %w", err)
		}
		out.Timeout = d
	}
	return out, nil
}

func (m *Match) check() error {
	if p := m.Path; p != nil {
		p.Type = cmp.Or(p.Type, "PathPrefix")
		if !slices.Contains([]string{"Exact", "PathPrefix", "RegularExpression"}, p.Type) {
			return fmt.Errorf("path.type: unknown %q", p.Type)
		}
		if p.Value = cmp.Or(p.Value, "/"); p.Type != "RegularExpression" && !strings.HasPrefix(p.Value, "/") {
			return fmt.Errorf("path.value: %q does not begin with /", p.Value)
		}
	}
	for what, list := range map[string][]ValueMatch{"headers": m.Headers, "queryParams": m.Query} {
		for i := range list {
			v := &list[i]
			if v.Type = cmp.Or(v.Type, "Exact"); v.Type != "Exact" && v.Type != "RegularExpression" || v.Name == "" {
				return fmt.Errorf("%s[%d]: want a name, and type Exact or RegularExpression", what, i)
			}
		}
	}
	return nil
}

func (f *Filter) check() error {
	set := map[string]bool{"RequestHeaderModifier": f.Request != nil, "ResponseHeaderModifier": f.Response != nil,
		"RequestRedirect": f.Redirect != nil, "URLRewrite": f.Rewrite != nil}
	if _, ok := set[f.Type]; !ok {
		return fmt.Errorf("type: %q is not supported", f.Type)
	}
	for name, has := range set {
		if has != (name == f.Type) {
			return fmt.Errorf("type: %s, which wants the field of that name and no other", f.Type)
		}
	}
	path := func() *PathModifier {
		switch {
		case f.Redirect != nil:
			return f.Redirect.Path
		case f.Rewrite != nil:
			return f.Rewrite.Path
		}
		return nil
	}()
	if path != nil && path.Type != "ReplaceFullPath" && path.Type != "ReplacePrefixMatch" {
		return fmt.Errorf("path.type: unknown %q", path.Type)
	}
	if r := f.Redirect; r != nil && !slices.Contains([]int{0, 301, 302, 303, 307, 308}, r.StatusCode) {
		return fmt.Errorf("requestRedirect.statusCode: %d is not supported; 301, 302, 303, 307 and 308 are", r.StatusCode)
	}
	return nil
}

// checkRoute looks up what a route names. A backend that is not there is no error, here as in the cluster: it answers 500.
func (r *reader) checkRoute(route *Route) error {
	for i, p := range route.Parents {
		s := r.mesh.Service(p.Namespace, p.Name)
		if s == nil {
			return route.doc.errorf("spec.parentRefs[%d]: there is no Service %s/%s that uses the waypoint", i, p.Namespace, p.Name)
		}
		if p.Port != 0 && s.Port(p.Port) == nil {
			return route.doc.errorf("spec.parentRefs[%d].port: Service %s has no port %d", i, p.Name, p.Port)
		}
	}
	for i, rule := range route.Rules {
		for j, b := range rule.Backends {
			for _, s := range r.mesh.Direct {
				if s.Namespace == b.Namespace && s.Name == b.Name {
					return route.doc.errorf("spec.rules[%d].backendRefs[%d]: Service %s does not use the waypoint, which is not supported for backends; label it %s: %s",
						i, j, b.Name, useWaypoint, r.mesh.Waypoint.Name)
				}
			}
		}
	}
	return nil
}
