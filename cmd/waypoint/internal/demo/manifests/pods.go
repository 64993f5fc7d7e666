package manifests

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

func (r *reader) pod(d *document) error {
	var spec podSpec
	if err := d.spec(&spec); err != nil {
		return err
	}
	return r.addPod(d, d.Metadata.Name, d.Metadata.Name, false, d.Metadata.Labels, &spec)
}

func (r *reader) deployment(d *document) error {
	var spec deploymentSpec
	if err := d.spec(&spec); err != nil {
		return err
	}
	if !selects(spec.Selector.MatchLabels, spec.Template.Metadata.Labels) {
		return d.errorf("spec.selector.matchLabels: the pods of spec.template do not have these labels")
	}
	replicas := 1
	if spec.Replicas != nil {
		replicas = *spec.Replicas
	}
	if replicas < 0 || replicas > 100 {
		return d.errorf("spec.replicas: %d; the demo runs 0 to 100", replicas)
	}
	for i := range replicas {
		if err := r.addPod(d, fmt.Sprintf("%s-%d", d.Metadata.Name, i), d.Metadata.Name, true, spec.Template.Metadata.Labels, &spec.Template.Spec); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) addPod(d *document, name, workload string, deployment bool, labels map[string]string, spec *podSpec) error {
	p := &Pod{
		Namespace: d.Metadata.Namespace, Name: name, Labels: labels, Workload: workload, Deployment: deployment, Ports: map[string]uint16{},
		Account: Account{d.Metadata.Namespace, cmp.Or(spec.ServiceAccountName, spec.ServiceAccount, "default")},
	}
	for i, c := range spec.Containers {
		for j, port := range c.Ports {
			if port.Protocol != "" && port.Protocol != "TCP" {
				return d.errorf("containers[%d].ports[%d].protocol: %s is not supported; TCP is", i, j, port.Protocol)
			}
			if port.Name != "" {
				p.Ports[port.Name] = port.ContainerPort
			}
		}
	}
	r.pods = append(r.pods, p)
	return nil
}

const dataplaneMode = "istio.io/dataplane-mode"

// placePods gives addresses. In the demo's cluster every pod is in the mesh unless its label says none.
func (r *reader) placePods() {
	slices.SortFunc(r.pods, func(a, b *Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	taken := map[netip.Addr]bool{}
	for _, p := range r.pods {
		p.IP = pick(podRange, p.Namespace+"/"+p.Name, taken)
		p.HBONE = cmp.Or(p.Labels[dataplaneMode], r.namespaces[p.Namespace][dataplaneMode]) != "none"
	}
	r.mesh.Pods = r.pods
}

// addClients makes a pod for each service account that has none, so that it can call.
func (r *reader) addClients() {
	taken, has := map[netip.Addr]bool{}, map[Account]bool{}
	for _, p := range r.mesh.Pods {
		taken[p.IP], has[p.Account] = true, true
	}
	for _, a := range r.mesh.Accounts {
		if !has[a] {
			r.mesh.Pods = append(r.mesh.Pods, &Pod{
				Namespace: a.Namespace, Name: a.Name + "-client", IP: pick(podRange, a.String()+"-client", taken), Account: a, Workload: a.Name,
				Labels: map[string]string{"app": a.Name}, HBONE: true,
			})
		}
	}
}
