package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	meshconfig "istio.io/api/mesh/v1alpha1"
	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/istio"
)

// Choice is which chain of which waypoint to decide for.
type Choice struct {
	// For is Service/<namespace>/<name>, or ServiceEntry or Gateway. "" takes the only one there is.
	For string
	// Waypoint is <namespace>/<name> of the Gateway that serves For; "" finds it out.
	Waypoint string
	// TCP is for ports that are not HTTP.
	TCP bool
	// TrustDomains in place of MeshConfig's: the mesh's own, and its aliases.
	TrustDomains []string
	// Version of istiod; default the newest.
	Version istio.Version
}

// Target is what was chosen.
type Target struct {
	istio.Target
	// Object is the Service, ServiceEntry or Gateway.
	Object istio.Object
	// Notes say what was assumed.
	Notes []string
}

const gatewayGroup = "gateway.networking.k8s.io"

// ObjectName is the form that Choice.For has.
func ObjectName(o istio.Object) string { return o.Kind + "/" + o.Namespace + "/" + o.Name }

// Target finds what to decide for. The error says which choices there are.
func (s *Set) Target(c Choice) (Target, error) {
	t := Target{Target: istio.Target{Version: c.Version, RootNamespace: s.RootNamespace(), TCP: c.TCP, TrustDomains: c.TrustDomains}}
	if len(t.TrustDomains) == 0 {
		t.TrustDomains = s.TrustDomains()
	}
	var err error
	if t.Object, err = s.chosen(c.For); err != nil {
		return t, err
	}
	if t.Object.Kind == "Gateway" {
		t.Gateway = istio.Object{Namespace: t.Object.Namespace, Name: t.Object.Name}
	} else {
		t.Objects = []istio.Object{t.Object}
		if t.Gateway, err = s.waypointOf(&t, c.Waypoint); err != nil {
			return t, err
		}
	}
	s.providers(&t)
	return t, nil
}

func (s *Set) chosen(name string) (istio.Object, error) {
	if name != "" {
		return ParseObject(name)
	}
	all := s.Candidates()
	switch {
	case len(all) == 0:
		return istio.Object{}, s.noTarget()
	case len(all) > 1 && !s.sameForAll(all):
		names := make([]string, len(all))
		for i, o := range all {
			names[i] = ObjectName(o)
		}
		return istio.Object{}, fmt.Errorf("several targets are possible; choose with --for one of:\n  %s", strings.Join(names, "\n  "))
	}
	return all[0], nil
}

// noTarget says why there is nothing to decide for.
func (s *Set) noTarget() error {
	if len(s.Policies) == 0 {
		return errors.New("the input has no AuthorizationPolicy; say with --for what to decide for nonetheless, such as --for Service/default/helloworld")
	}
	text := "no policy names a Service, ServiceEntry or Gateway in targetRefs, so no waypoint enforces any of them:"
	for i := range s.Policies {
		p := &s.Policies[i]
		why := "has neither selector nor targetRefs: it is for all of its namespace"
		if p.Spec.GetSelector() != nil {
			why = "has a selector"
		}
		text += fmt.Sprintf("\n  %s: AuthorizationPolicy %s/%s %s", p.At(""), p.Namespace, p.Name, why)
	}
	return errors.New(text + "\nTo have a waypoint enforce one, give it targetRefs. To see what holds for a Service as it is, say --for Service/<namespace>/<name>")
}

// ParseObject reads <kind>/<namespace>/<name>.
func ParseObject(name string) (istio.Object, error) {
	parts := strings.Split(name, "/")
	if len(parts) == 2 { // kubectl's form, in the default namespace
		parts = []string{parts[0], "default", parts[1]}
	}
	if len(parts) != 3 || slices.Contains(parts, "") {
		return istio.Object{}, fmt.Errorf("%q: want <kind>/<namespace>/<name>%s", name, suggestion(name))
	}
	o := istio.Object{Namespace: parts[1], Name: parts[2]}
	switch strings.ToLower(parts[0]) {
	case "service", "svc":
		o.Kind = "Service"
	case "serviceentry", "se":
		o.Group, o.Kind = "networking.istio.io", "ServiceEntry"
	case "gateway", "gtw":
		o.Group, o.Kind = gatewayGroup, "Gateway"
	default:
		return o, fmt.Errorf("%q: %s is no kind that a waypoint enforces policy for; name a Service, a ServiceEntry or a Gateway%s", name, parts[0], suggestion(name))
	}
	return o, nil
}

// suggestion guesses what was meant: a Service by namespace and name, by its host, or by its name.
func suggestion(name string) string {
	namespace, service := "default", "helloworld"
	switch parts := strings.Split(name, "/"); {
	case slices.Contains(parts, "") || strings.EqualFold(parts[0], "GatewayClass"):
	case len(parts) == 3:
		namespace, service = parts[1], parts[2]
	case len(parts) == 2:
		namespace, service = parts[0], parts[1]
	case strings.Contains(name, "."):
		host := strings.Split(name, ".")
		namespace, service = host[1], host[0]
	default:
		namespace, service = "<namespace>", name
	}
	return fmt.Sprintf(", such as Service/%s/%s", namespace, service)
}

// Candidates are what can be decided for: the Services and ServiceEntries that policies name or that use a waypoint, and the
// Gateways that policies name of which no such Service is known. Sorted by name.
func (s *Set) Candidates() []istio.Object {
	var out []istio.Object
	served := map[istio.Object]bool{}
	add := func(o istio.Object) {
		if !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	for _, svc := range s.Mesh.Services {
		if svc.Waypoint != nil {
			add(svc.Object)
			served[*svc.Waypoint] = true
		}
	}
	named := s.named()
	for _, o := range named {
		if o.Kind == "Service" || o.Kind == "ServiceEntry" {
			add(o)
		}
	}
	if len(out) == 0 || len(served) > 0 {
		for _, o := range named {
			if o.Kind == "Gateway" && !served[o] {
				add(o)
			}
		}
	}
	slices.SortFunc(out, func(a, b istio.Object) int { return cmp.Compare(ObjectName(a), ObjectName(b)) })
	return out
}

// named lists what policies name in targetRefs.
func (s *Set) named() []istio.Object {
	var out []istio.Object
	for i := range s.Policies {
		for _, o := range Refs(&s.Policies[i].Policy) {
			if !slices.Contains(out, o) {
				out = append(out, o)
			}
		}
	}
	return out
}

// attached is a policy or a RequestAuthentication.
type attached interface {
	GetTargetRef() *typev1beta1.PolicyTargetReference
	GetTargetRefs() []*typev1beta1.PolicyTargetReference
}

// Names tells whether a policy, or a RequestAuthentication, of the namespace names the target.
func (t *Target) Names(namespace string, spec attached) bool {
	return slices.ContainsFunc(refs(namespace, spec), func(o istio.Object) bool {
		if o.Kind == "GatewayClass" {
			return namespace == t.RootNamespace && o.Name == istio.WaypointClass
		}
		return o == t.Object || o.Kind == "Gateway" && o.Namespace == t.Gateway.Namespace && o.Name == t.Gateway.Name
	})
}

// Refs are the objects that a policy's targetRefs name.
func Refs(p *istio.Policy) []istio.Object { return refs(p.Namespace, p.Spec) }

// refs are the objects that targetRefs name. The older targetRef counts only where there are none.
func refs(namespace string, spec attached) []istio.Object {
	all := spec.GetTargetRefs()
	if ref := spec.GetTargetRef(); ref != nil && len(all) == 0 {
		all = []*typev1beta1.PolicyTargetReference{ref}
	}
	var out []istio.Object
	for _, ref := range all {
		o := istio.Object{Group: ref.GetGroup(), Kind: ref.GetKind(), Namespace: namespace, Name: ref.GetName()}
		if o.Group == "core" {
			o.Group = ""
		}
		out = append(out, o)
	}
	return out
}

// sameForAll tells whether the same policies apply to all, so that it does not matter which is taken.
func (s *Set) sameForAll(all []istio.Object) bool {
	return !slices.ContainsFunc(all, func(o istio.Object) bool { return s.applying(o) != s.applying(all[0]) })
}

// applying lists by name the policies that name the object or its waypoint.
func (s *Set) applying(o istio.Object) string {
	var names []string
	waypoint := s.knownWaypoint(o)
	for i := range s.Policies {
		p := &s.Policies[i].Policy
		if slices.ContainsFunc(Refs(p), func(ref istio.Object) bool { return ref == o || waypoint != nil && ref == *waypoint }) {
			names = append(names, p.Namespace+"/"+p.Name)
		}
	}
	return strings.Join(names, " ")
}

// service finds a Service of the input, nil if it is not there.
func (s *Set) service(o istio.Object) *istio.Service {
	for i := range s.Mesh.Services {
		if s.Mesh.Services[i].Object == o {
			return &s.Mesh.Services[i]
		}
	}
	return nil
}

func (s *Set) knownWaypoint(o istio.Object) *istio.Object {
	if svc := s.service(o); svc != nil {
		return svc.Waypoint
	}
	return nil
}

// waypointOf finds the waypoint that serves the target, or takes the only one that it can be.
func (s *Set) waypointOf(t *Target, chosen string) (istio.Object, error) {
	if chosen != "" {
		namespace, name, ok := strings.Cut(chosen, "/")
		if !ok {
			namespace, name = t.Object.Namespace, chosen
		}
		return istio.Object{Namespace: namespace, Name: name}, nil
	}
	missing := t.Object.Kind + " " + t.Object.Namespace + "/" + t.Object.Name
	if svc := s.service(t.Object); svc != nil {
		if svc.Waypoint == nil && !svc.WaypointUnknown {
			t.Notes = append(t.Notes, fmt.Sprintf("%s uses no waypoint, so nothing enforces these policies for it: label it, or its Namespace, %s",
				ObjectName(t.Object), labelUseWaypoint))
			return istio.Object{}, nil
		}
		if svc.Waypoint != nil {
			return istio.Object{Namespace: svc.Waypoint.Namespace, Name: svc.Waypoint.Name}, nil
		}
		missing = "Namespace " + svc.Namespace
	}
	var all []istio.Object
	for _, w := range s.Mesh.Gateways {
		all = append(all, istio.Object{Namespace: w.Namespace, Name: w.Name})
	}
	for _, o := range s.named() {
		if g := (istio.Object{Namespace: o.Namespace, Name: o.Name}); o.Kind == "Gateway" && !slices.Contains(all, g) {
			all = append(all, g)
		}
	}
	switch len(all) {
	case 0:
		return istio.Object{}, nil // no policy can apply by it
	case 1:
		t.Notes = append(t.Notes, fmt.Sprintf("taking it that %s uses the waypoint %s/%s: the input does not have %s; --waypoint says otherwise",
			ObjectName(t.Object), all[0].Namespace, all[0].Name, missing))
		return all[0], nil
	}
	names := make([]string, len(all))
	for i, o := range all {
		names[i] = o.Namespace + "/" + o.Name
	}
	return istio.Object{}, fmt.Errorf("which waypoint does %s use? Add its manifest and its Namespace's to the input, or choose with --waypoint one of:\n  %s",
		ObjectName(t.Object), strings.Join(names, "\n  "))
}

// providers fills in the extension providers. Without a MeshConfig those that policies name are taken to be there.
func (s *Set) providers(t *Target) {
	if s.MeshConfig != nil {
		t.Providers = s.MeshConfig.GetExtensionProviders()
		return
	}
	var names []string
	for i := range s.Policies {
		if name := s.Policies[i].Spec.GetProvider().GetName(); name != "" && !slices.Contains(names, name) && t.Names(s.Policies[i].Namespace, s.Policies[i].Spec) {
			names = append(names, name)
			t.Providers = append(t.Providers, &meshconfig.MeshConfig_ExtensionProvider{Name: name, Provider: &meshconfig.MeshConfig_ExtensionProvider_EnvoyExtAuthzGrpc{
				EnvoyExtAuthzGrpc: &meshconfig.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationGrpcProvider{Service: "unknown.invalid", Port: 9000},
			}})
		}
	}
	if len(names) > 0 {
		t.MultipleProviders = true
		t.Notes = append(t.Notes, fmt.Sprintf("the input has no MeshConfig: taking it that it has the extension provider %s", strings.Join(names, ", ")))
	}
}
