package manifests

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
)

// Ranges that addresses are taken from: kind's defaults, which no machine routes.
var (
	serviceRange = netip.MustParsePrefix("10.96.0.0/16")
	podRange     = netip.MustParsePrefix("10.244.0.0/16")
)

const useWaypoint = "istio.io/use-waypoint"

type loadedService struct {
	*Service
	doc *document
}

func (r *reader) service(d *document) error {
	var spec serviceSpec
	if err := d.spec(&spec); err != nil {
		return err
	}
	if spec.Type != "" && spec.Type != "ClusterIP" {
		return d.errorf("spec.type: %s is not supported; ClusterIP is", spec.Type)
	}
	if spec.ClusterIP == "None" {
		return d.errorf("spec.clusterIP: a headless service has no address for a waypoint to serve")
	}
	s := &Service{Namespace: d.Metadata.Namespace, Name: d.Metadata.Name, Selector: spec.Selector}
	if spec.ClusterIP != "" {
		a, err := netip.ParseAddr(spec.ClusterIP)
		if err != nil {
			return d.errorf("spec.clusterIP: %w", err)
		}
		s.VIP = a
	}
	for i, p := range spec.Ports {
		if p.Protocol != "" && p.Protocol != "TCP" {
			return d.errorf("spec.ports[%d].protocol: %s is not supported; TCP is", i, p.Protocol)
		}
		if p.Port == 0 {
			return d.errorf("spec.ports[%d].port: missing", i)
		}
		protocol, err := protocolOf(p)
		if err != nil {
			return d.errorf("spec.ports[%d]: %w", i, err)
		}
		s.Ports = append(s.Ports, Port{p.Name, p.Port, protocol, p.TargetPort})
	}
	r.services = append(r.services, loadedService{s, d})
	return nil
}

// protocolOf is Istio's rule: appProtocol, else the part of the name before the first dash. What is not known there is looked
// for in the bytes, save for the well-known ports of protocols in which the server speaks first.
func protocolOf(p servicePort) (Protocol, error) {
	name := p.AppProtocol
	switch name {
	case "kubernetes.io/h2c":
		return HTTP2, nil
	case "kubernetes.io/ws":
		return HTTP, nil
	case "kubernetes.io/wss":
		return TCP, nil
	case "":
		name, _, _ = strings.Cut(p.Name, "-")
		if p.Name == "grpc-web" || strings.HasPrefix(p.Name, "grpc-web-") {
			name = "grpc-web"
		}
	}
	switch strings.ToLower(name) {
	case "http":
		return HTTP, nil
	case "http2", "grpc":
		return HTTP2, nil
	case "tcp":
		return TCP, nil
	case "https", "tls", "mongo", "redis", "mysql", "udp", "grpc-web":
		return 0, fmt.Errorf("protocol %s is not supported; http, http2, grpc and tcp are, and none", name)
	}
	if slices.Contains([]uint16{25, 53, 3306, 27017}, p.Port) {
		return TCP, nil
	}
	return Auto, nil
}

// placeServices gives addresses and finds out which services use the waypoint.
func (r *reader) placeServices() error {
	slices.SortFunc(r.services, func(a, b loadedService) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	taken := map[netip.Addr]bool{}
	for _, s := range r.services {
		if s.VIP.IsValid() && taken[s.VIP] {
			return s.doc.errorf("spec.clusterIP: %s is another service's", s.VIP)
		}
		taken[s.VIP] = true
	}
	for _, s := range r.services {
		if !s.VIP.IsValid() {
			s.VIP = pick(serviceRange, s.Namespace+"/"+s.Name, taken)
		}
		labels := s.doc.Metadata.Labels
		waypoint, own := labels[useWaypoint]
		ns := labels["istio.io/use-waypoint-namespace"]
		if !own {
			waypoint, ns = r.namespaces[s.Namespace][useWaypoint], r.namespaces[s.Namespace]["istio.io/use-waypoint-namespace"]
		}
		switch w := r.mesh.Waypoint; {
		case waypoint == "" || waypoint == "none":
			r.mesh.Direct = append(r.mesh.Direct, s.Service)
		case waypoint == w.Name && cmp.Or(ns, s.Namespace) == w.Namespace:
			r.mesh.Services = append(r.mesh.Services, s.Service)
		default:
			return s.doc.errorf("label %s: there is no waypoint %s/%s", useWaypoint, cmp.Or(ns, s.Namespace), waypoint)
		}
	}
	if len(r.mesh.Services) == 0 {
		return fmt.Errorf("no Service uses the waypoint: label one, or its Namespace, %s: %s", useWaypoint, r.mesh.Waypoint.Name)
	}
	return nil
}

// pick takes an address by name, and the next one when it is taken.
func pick(from netip.Prefix, name string, taken map[netip.Addr]bool) netip.Addr {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // a hash does not fail
	base := from.Addr().As4()
	for n := h.Sum32(); ; n++ {
		b := base
		binary.BigEndian.PutUint16(b[2:], uint16(n%0xfffd)+2)
		if a := netip.AddrFrom4(b); !taken[a] {
			taken[a] = true
			return a
		}
	}
}
