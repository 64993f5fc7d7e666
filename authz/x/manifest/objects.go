package manifest

import (
	"slices"
	"strings"

	securityv1beta1 "istio.io/api/security/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/istio"
)

// handler reads the rest of an object whose head is read.
type handler struct {
	group    string   // of the API
	versions []string // those that are understood
	cluster  bool     // has no namespace
	extra    []string // fields beside metadata, spec and status
	read     func(r *reader, o *object)
}

// kinds that concern policy. Everything else is passed over.
func handlers() map[string]handler {
	pods := func(r *reader, o *object) { r.workload(o) }
	return map[string]handler{
		"AuthorizationPolicy":   {"security.istio.io", []string{"v1", "v1beta1"}, false, nil, (*reader).policy},
		"RequestAuthentication": {"security.istio.io", []string{"v1", "v1beta1"}, false, nil, (*reader).authentication},
		"Namespace":             {"", []string{"v1"}, true, nil, (*reader).namespace},
		"Service":               {"", []string{"v1"}, false, nil, (*reader).service},
		"ServiceEntry":          {"networking.istio.io", []string{"v1", "v1beta1", "v1alpha3"}, false, nil, (*reader).serviceEntry},
		"Gateway":               {"gateway.networking.k8s.io", []string{"v1", "v1beta1"}, false, nil, (*reader).gateway},
		"Pod":                   {"", []string{"v1"}, false, nil, pods},
		"Deployment":            {"apps", []string{"v1"}, false, nil, pods},
		"ReplicaSet":            {"apps", []string{"v1"}, false, nil, pods},
		"StatefulSet":           {"apps", []string{"v1"}, false, nil, pods},
		"DaemonSet":             {"apps", []string{"v1"}, false, nil, pods},
		"Job":                   {"batch", []string{"v1"}, false, nil, pods},
		"CronJob":               {"batch", []string{"v1"}, false, nil, pods},
		"ConfigMap":             {"", []string{"v1"}, false, []string{"data", "binaryData", "immutable"}, (*reader).configMap},
		"IstioOperator":         {"install.istio.io", []string{"v1alpha1"}, false, nil, (*reader).operator},
	}
}

// object is one Kubernetes object that is being read.
type object struct {
	head
	problems
	at   Place
	node *node
}

// String is what messages call it.
func (o *object) String() string {
	name := o.Metadata.Name
	if o.Metadata.Namespace != "" {
		name = o.Metadata.Namespace + "/" + name
	}
	return strings.TrimSpace(o.Kind + " " + name)
}

func (o *object) origin() origin { return origin{o.at, o.node} }

// object reads an object. Kind and version stand in for what an item of a typed list leaves out.
func (r *reader) object(at Place, n *node, kind, version string) {
	o := &object{problems: problems{root: n}, at: at, node: n}
	o.Kind, o.APIVersion = kind, version
	if k := n.str("kind"); k != "" {
		o.Kind = k
	}
	if v := n.str("apiVersion"); v != "" {
		o.APIVersion = v
	}
	h, known := r.handlerOf(o)
	if !known {
		r.take(at, o.name(n), &o.problems)
		return
	}
	rest := *n
	rest.members = slices.DeleteFunc(slices.Clone(n.members), func(m member) bool { return slices.Contains(h.extra, m.name) })
	o.decode("", &rest, &o.head)
	switch {
	case o.Metadata.Name == "" && len(o.list) == 0:
		o.problems.at("metadata", "name is missing")
	case h.cluster:
		o.Metadata.Namespace = ""
	case o.Metadata.Namespace == "":
		o.Metadata.Namespace = r.options.Namespace
	}
	if o.Metadata.Name != "" {
		key := o.String()
		if first, ok := r.seen[key]; ok {
			o.problems.at("metadata.name", "defined twice; the other one is at %s", first)
		} else {
			r.seen[key] = o.at
		}
	}
	h.read(r, o) // also when there are problems already, to find all of them
	r.take(at, o.String(), &o.problems)
}

func (o *object) name(n *node) string {
	o.Metadata.Name, o.Metadata.Namespace = n.get("metadata").str("name"), n.get("metadata").str("namespace")
	return o.String()
}

// handlerOf finds out whether the object concerns policy. One that does but is spelled wrong is a problem, not passed over.
func (r *reader) handlerOf(o *object) (handler, bool) {
	all := handlers()
	group, version, ok := strings.Cut(o.APIVersion, "/")
	if !ok {
		group, version = "", o.APIVersion
	}
	h, known := all[o.Kind]
	switch {
	case len(r.options.Only) > 0 && !slices.Contains(r.options.Only, o.Kind):
		r.ignore(o.at, o.name(o.node), "is not asked for")
		return h, false
	case known && h.group == group && slices.Contains(h.versions, version):
		return h, true
	case known && h.group == group || o.Kind == "AuthorizationPolicy" || o.Kind == "RequestAuthentication":
		o.problems.at("apiVersion", "%q; %s is read in %s", o.APIVersion, o.Kind, h.apiVersions())
		return h, false
	case group == "security.istio.io" && o.Kind != "PeerAuthentication":
		o.problems.at("kind", "%q is not known in %s; there are AuthorizationPolicy, RequestAuthentication and PeerAuthentication", o.Kind, group)
		return h, false
	}
	r.ignore(o.at, o.name(o.node), "does not concern authorization")
	return h, false
}

func (h handler) apiVersions() string {
	var all []string
	for _, v := range h.versions {
		all = append(all, strings.TrimPrefix(h.group+"/"+v, "/"))
	}
	return strings.Join(all, ", ")
}

func (r *reader) policy(o *object) {
	spec := &securityv1beta1.AuthorizationPolicy{}
	o.message("spec", o.Spec, spec, false)
	r.set.Policies = append(r.set.Policies, Policy{
		Policy: istio.Policy{Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Annotations: o.Metadata.Annotations, Spec: spec},
		origin: o.origin(),
	})
}

func (r *reader) authentication(o *object) {
	spec := &securityv1beta1.RequestAuthentication{}
	o.message("spec", o.Spec, spec, false)
	r.set.Authentications = append(r.set.Authentications, RequestAuthentication{
		RequestAuthentication: istio.RequestAuthentication{Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Spec: spec}, origin: o.origin(),
	})
}

// spec decodes the spec of a kind without a protobuf message.
func (o *object) spec(into any) bool {
	if o.Spec == nil {
		return true
	}
	before := len(o.list)
	o.decode("spec", o.Spec, into)
	return len(o.list) == before
}
