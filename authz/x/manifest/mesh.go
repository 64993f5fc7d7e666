package manifest

import (
	"cmp"
	"slices"
	"strings"

	networkingv1 "istio.io/api/networking/v1alpha3"

	"github.com/gowaypoint/gowaypoint/authz/istio"
)

// Labels that say who serves whom.
const (
	labelUseWaypoint   = "istio.io/use-waypoint"
	labelUseWaypointNS = "istio.io/use-waypoint-namespace"
	labelWaypointFor   = "istio.io/waypoint-for"
	labelDataplane     = "istio.io/dataplane-mode"
	labelInjection     = "istio-injection"
	labelRevision      = "istio.io/rev"
	labelInject        = "sidecar.istio.io/inject" // also an annotation
	labelTemplateHash  = "pod-template-hash"
)

type labels = map[string]string

// meshReader keeps what waits for the namespaces' labels, which may come later in the input.
type meshReader struct {
	namespaces map[string]labels
	services   []placedService
	workloads  []placedWorkload
}

type placedService struct {
	istio.Service
	labels labels
}

type placedWorkload struct {
	istio.Workload
	annotations labels
	pod         podSpec
	owned       bool // it belongs to something else that makes pods
}

func (r *reader) namespace(o *object) {
	if o.spec(&namespaceSpec{}) {
		r.mesh.namespaces[o.Metadata.Name] = o.Metadata.Labels
	}
}

func (r *reader) service(o *object) {
	var spec serviceSpec
	if !o.spec(&spec) {
		return
	}
	s := istio.Service{Object: istio.Object{Kind: "Service", Namespace: o.Metadata.Namespace, Name: o.Metadata.Name}, Selector: spec.Selector, Headless: spec.ClusterIP == "None"}
	for _, p := range spec.Ports {
		name, _, _ := strings.Cut(p.Name, "-")
		if strings.HasPrefix(p.Name, "grpc-web") {
			name = "grpc-web"
		}
		s.Ports = append(s.Ports, istio.Port{Number: p.Port, HTTP: p.Protocol != "UDP" && isHTTP(cmp.Or(p.AppProtocol, name), p.Port)})
	}
	r.mesh.services = append(r.mesh.services, placedService{s, o.Metadata.Labels})
}

func (r *reader) serviceEntry(o *object) {
	spec := &networkingv1.ServiceEntry{}
	before := len(o.list)
	if o.message("spec", o.Spec, spec, false); len(o.list) > before {
		return
	}
	s := istio.Service{
		Object:   istio.Object{Group: "networking.istio.io", Kind: "ServiceEntry", Namespace: o.Metadata.Namespace, Name: o.Metadata.Name},
		Selector: spec.GetWorkloadSelector().GetLabels(),
	}
	for _, p := range spec.GetPorts() {
		number := uint16(p.GetNumber()) // what is out of range is no port of any request
		s.Ports = append(s.Ports, istio.Port{Number: number, HTTP: isHTTP(p.GetProtocol(), number)})
	}
	r.mesh.services = append(r.mesh.services, placedService{s, o.Metadata.Labels})
}

// isHTTP is Istio's protocol selection: what is not declared is sniffed, save for the well-known ports of protocols in which
// the server speaks first.
func isHTTP(protocol string, port uint16) bool {
	switch strings.ToLower(protocol) {
	case "http", "http2", "grpc", "grpc-web", "kubernetes.io/h2c", "kubernetes.io/ws":
		return true
	case "tcp", "tls", "https", "mongo", "redis", "mysql", "udp", "kubernetes.io/wss":
		return false
	}
	return !slices.Contains([]uint16{25, 53, 3306, 27017}, port)
}

func (r *reader) gateway(o *object) {
	var spec gatewaySpec
	if !o.spec(&spec) {
		return
	}
	r.set.Mesh.Gateways = append(r.set.Mesh.Gateways, istio.Gateway{
		Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Class: spec.GatewayClassName, For: o.Metadata.Labels[labelWaypointFor],
	})
}

// workload reads a Pod, or what makes pods.
func (r *reader) workload(o *object) {
	meta, pod := o.Metadata, podSpec{}
	switch o.Kind {
	case "Pod":
		if !o.spec(&pod) {
			return
		}
		meta.Name = ownerOf(&meta)
	case "CronJob":
		var spec cronJobSpec
		if !o.spec(&spec) {
			return
		}
		t := spec.JobTemplate.Spec.Template
		meta.Labels, meta.Annotations, pod = t.Metadata.Labels, t.Metadata.Annotations, t.Spec
	default:
		var spec workloadSpec
		if !o.spec(&spec) {
			return
		}
		meta.Name = ownerOf(&meta)
		meta.Labels, meta.Annotations, pod = spec.Template.Metadata.Labels, spec.Template.Metadata.Annotations, spec.Template.Spec
	}
	r.mesh.workloads = append(r.mesh.workloads, placedWorkload{
		istio.Workload{
			Namespace: meta.Namespace, Name: meta.Name, Labels: meta.Labels,
			ServiceAccount: cmp.Or(pod.ServiceAccountName, pod.ServiceAccount, "default"),
		}, meta.Annotations, pod, len(o.Metadata.OwnerReferences) > 0,
	})
}

// ownerOf is the name of the Deployment, StatefulSet and so on that a pod or ReplicaSet belongs to, or its own. The pods of one
// owner are one workload.
func ownerOf(meta *objectMeta) string {
	if len(meta.OwnerReferences) == 0 {
		return meta.Name
	}
	owner := meta.OwnerReferences[0]
	if hash := meta.Labels[labelTemplateHash]; owner.Kind == "ReplicaSet" && hash != "" {
		return strings.TrimSuffix(owner.Name, "-"+hash)
	}
	return owner.Name
}

// placeMesh finds out which waypoint serves whom, when all namespaces are known.
func (r *reader) placeMesh() {
	m := &r.set.Mesh
	m.RootNamespace = r.set.RootNamespace()
	// Whoever gives namespaces, services and gateways gives what there is; who gives less, a part of it.
	m.Partial = len(r.mesh.namespaces) == 0 || len(r.mesh.services) == 0 || len(m.Gateways) == 0
	for _, s := range r.mesh.services {
		s.Waypoint = r.mesh.waypoint(s.Namespace, s.labels)
		_, own := s.labels[labelUseWaypoint]
		s.WaypointUnknown = !own && !r.mesh.knows(s.Namespace)
		m.Services = append(m.Services, s.Service)
	}
	seen := map[string]bool{}
	for _, w := range r.mesh.workloads {
		key := w.Namespace + "/" + w.Name
		if w.owned && seen[key] { // one of several pods of a workload
			continue
		}
		seen[key] = true
		w.Waypoint = r.mesh.waypoint(w.Namespace, w.Labels)
		w.Mode = r.mesh.mode(&w)
		m.Workloads = append(m.Workloads, w.Workload)
	}
}

func (m *meshReader) waypoint(namespace string, own labels) *istio.Object {
	from := own
	if _, ok := own[labelUseWaypoint]; !ok {
		from = m.namespaces[namespace]
	}
	name := from[labelUseWaypoint]
	if name == "" || name == "none" {
		return nil
	}
	return &istio.Object{Group: "gateway.networking.k8s.io", Kind: "Gateway", Namespace: cmp.Or(from[labelUseWaypointNS], namespace), Name: name}
}

// mode tells sidecars by the container, or by what the injector goes by. A pod with a sidecar is left alone by ztunnel.
func (m *meshReader) mode(w *placedWorkload) istio.Mode {
	ns := m.namespaces[w.Namespace]
	for _, c := range slices.Concat(w.pod.Containers, w.pod.InitContainers) {
		if c.Name == "istio-proxy" {
			return istio.HasSidecar
		}
	}
	if w.pod.HostNetwork {
		return istio.NotInMesh
	}
	inject := cmp.Or(w.Labels[labelInject], w.annotations[labelInject])
	ambient := cmp.Or(w.Labels[labelDataplane], ns[labelDataplane]) == "ambient"
	switch {
	case inject == "true":
		return istio.HasSidecar
	case inject != "false" && (ns[labelInjection] == "enabled" || ns[labelInjection] == "" && ns[labelRevision] != "" && !ambient):
		return istio.HasSidecar
	case ambient:
		return istio.Ambient
	case !m.knows(w.Namespace) && inject != "false" && w.Labels[labelDataplane] == "":
		return istio.ModeUnknown
	}
	return istio.NotInMesh
}

// knows tells whether the input has a namespace, without whose labels much is open.
func (m *meshReader) knows(namespace string) bool {
	_, ok := m.namespaces[namespace]
	return ok
}
