package fake

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

// manifests are the objects of the cluster, each kind and name once.
type manifests struct {
	order   []string // keys in order of first appearance
	objects map[string]*unstructured.Unstructured
}

// parse adds the documents of a YAML text; an object that is there already is replaced. It returns the objects of the text.
func (m *manifests) parse(text string) ([]*unstructured.Unstructured, error) {
	if m.objects == nil {
		m.objects = map[string]*unstructured.Unstructured{}
	}
	var out []*unstructured.Unstructured
	for _, doc := range strings.Split("\n"+text, "\n---") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		o := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(doc), &o.Object); err != nil {
			return nil, fmt.Errorf("%w in manifest:%s", err, doc)
		}
		if len(o.Object) == 0 { // a comment
			continue
		}
		if o.GetKind() == "" || o.GetName() == "" {
			return nil, fmt.Errorf("no kind or no name in manifest:%s", doc)
		}
		if o.GetNamespace() == "" && o.GetKind() != "Namespace" && o.GetKind() != "GatewayClass" {
			o.SetNamespace("default")
		}
		if err := setDefaults(o); err != nil {
			return nil, fmt.Errorf("%w in manifest:%s", err, doc)
		}
		m.put(o)
		out = append(out, o)
	}
	return out, nil
}

func key(o *unstructured.Unstructured) string {
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

func (m *manifests) put(o *unstructured.Unstructured) {
	if m.objects[key(o)] == nil {
		m.order = append(m.order, key(o))
	}
	m.objects[key(o)] = o
}

func (m *manifests) remove(o *unstructured.Unstructured) {
	delete(m.objects, key(o))
	m.order = slices.DeleteFunc(m.order, func(k string) bool { return k == key(o) })
}

func typed[T any](o *unstructured.Unstructured) (*T, error) {
	t := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, t, true); err != nil {
		return nil, fmt.Errorf("%s: %w", key(o), err)
	}
	return t, nil
}

// each calls f for the objects of a kind, in order.
func each[T any](m *manifests, kind string, f func(*T) error) error {
	for _, k := range m.order {
		if o := m.objects[k]; o.GetKind() == kind {
			t, err := typed[T](o)
			if err == nil {
				err = f(t)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// endpointSlices adds what Kubernetes' endpoint slice controller makes of services and pods. It returns the slices.
func (m *manifests) endpointSlices() ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	err := each(m, "Service", func(svc *corev1.Service) error {
		if len(svc.Spec.Selector) == 0 {
			return nil
		}
		slice := &discoveryv1.EndpointSlice{
			TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
			ObjectMeta: metav1.ObjectMeta{Name: svc.Name + "-slice", Namespace: svc.Namespace,
				Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
			AddressType: discoveryv1.AddressTypeIPv4,
		}
		if svc.Spec.ClusterIP == corev1.ClusterIPNone {
			slice.Labels[corev1.IsHeadlessService] = ""
		}
		for _, p := range svc.Spec.Ports {
			target := p.TargetPort.IntVal
			if target == 0 {
				target = p.Port
			}
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &target, Protocol: ptr.To(corev1.ProtocolTCP), AppProtocol: p.AppProtocol})
		}
		err := each(m, "Pod", func(pod *corev1.Pod) error {
			if pod.Namespace != svc.Namespace || !labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(pod.Labels)) {
				return nil
			}
			ready := pod.Status.Conditions[0].Status == corev1.ConditionTrue
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses:  []string{pod.Status.PodIP},
				Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready, Terminating: ptr.To(false)},
				TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: pod.Name, Namespace: pod.Namespace},
			})
			return nil
		})
		if err != nil {
			return err
		}
		o, err := runtime.DefaultUnstructuredConverter.ToUnstructured(slice)
		if err != nil {
			return err
		}
		u := &unstructured.Unstructured{Object: o}
		m.put(u)
		out = append(out, u)
		return nil
	})
	return out, err
}

// yaml is a text with the objects that keep accepts.
func (m *manifests) yaml(keep func(*unstructured.Unstructured) bool) (string, error) {
	var docs []string
	for _, k := range m.order {
		if o := m.objects[k]; keep(o) {
			b, err := yaml.Marshal(o.Object)
			if err != nil {
				return "", err
			}
			docs = append(docs, string(b))
		}
	}
	return strings.Join(docs, "\n---\n"), nil
}

// address finds where clients connect to for "service:port", "service.namespace:port", "pod/name:port" or "ip:port".
func (m *manifests) address(target string) (string, error) {
	name, port, ok := strings.Cut(target, ":")
	if !ok {
		return "", fmt.Errorf("%s: no port", target)
	}
	if name != "" && strings.Trim(name, "0123456789.") == "" {
		return target, nil
	}
	ns := "default"
	if pod, ok := strings.CutPrefix(name, "pod/"); ok {
		if o := m.objects["Pod "+ns+"/"+pod]; o != nil {
			ip, _, err := unstructured.NestedString(o.Object, "status", "podIP")
			return ip + ":" + port, err
		}
		return "", fmt.Errorf("no pod %s", pod)
	}
	if n, s, ok := strings.Cut(name, "."); ok {
		name, ns = n, s
	}
	if o := m.objects["Service "+ns+"/"+name]; o != nil {
		ip, _, err := unstructured.NestedString(o.Object, "spec", "clusterIP")
		return ip + ":" + port, err
	}
	if o := m.objects["ServiceEntry "+ns+"/"+name]; o != nil {
		ips, _, err := unstructured.NestedStringSlice(o.Object, "spec", "addresses")
		if err != nil {
			return "", fmt.Errorf("ServiceEntry %s: %w", name, err)
		}
		if len(ips) == 0 {
			return "", fmt.Errorf("ServiceEntry %s has no address", name)
		}
		return ips[0] + ":" + port, nil
	}
	return "", fmt.Errorf("%s is no service, pod or address among %v", target, slices.Collect(maps.Keys(m.objects)))
}
