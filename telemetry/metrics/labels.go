package metrics

import (
	"strconv"
	"strings"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

const (
	unknown = "unknown"
	latest  = "latest"
)

// peerLabels are the labels of every standard metric: who called whom. Order and fallbacks are those of Istio's stats
// filter with reporter SERVER_GATEWAY.
func peerLabels(r *telemetry.Record, hostFallback bool) []labelAssignment {
	var none telemetry.Peer
	src, dst := r.Source, r.Destination
	if src == nil {
		src = &none
	}
	if dst == nil {
		dst = &none
	}
	host, name, namespace := destinationService(r, hostFallback)
	return []labelAssignment{
		{"reporter", "waypoint"},
		{"source_workload", or(src.Workload, unknown)},
		{"source_canonical_service", or(src.CanonicalService, unknown)},
		{"source_canonical_revision", or(src.CanonicalRevision, latest)},
		// The namespace in the certificate is proven, the one of workload discovery is looked up by address.
		{"source_workload_namespace", or(or(spiffeNamespace(r.PeerPrincipal), src.Namespace), unknown)},
		{"source_principal", or(r.PeerPrincipal, unknown)},
		{"source_app", or(src.App, unknown)},
		{"source_version", or(src.Version, unknown)},
		{"source_cluster", or(src.Cluster, unknown)},
		{"destination_workload", or(dst.Workload, unknown)},
		{"destination_workload_namespace", or(dst.Namespace, unknown)},
		{"destination_principal", or(dst.Identity, unknown)},
		{"destination_app", or(dst.App, unknown)},
		{"destination_version", or(dst.Version, unknown)},
		{"destination_service", or(host, unknown)},
		{"destination_canonical_service", or(dst.CanonicalService, unknown)},
		{"destination_canonical_revision", or(dst.CanonicalRevision, unknown)}, // not "latest": as Istio has it
		{"destination_service_name", or(name, unknown)},
		{"destination_service_namespace", or(namespace, unknown)},
		{"destination_cluster", or(dst.Cluster, unknown)},
	}
}

// httpLabels are what HTTP metrics have besides.
func httpLabels(r *telemetry.Record) []labelAssignment {
	protocol, status := "http", ""
	if r.GRPC {
		protocol = "grpc"
		if code, ok := r.GRPCStatus.Code(); ok {
			status = strconv.Itoa(code)
		}
	}
	return []labelAssignment{
		{"request_protocol", protocol},
		{"response_code", strconv.Itoa(r.ResponseCode)},
		{"grpc_response_status", status},
		{"response_flags", r.Flags.String()},
		{"connection_security_policy", securityPolicy(r)},
	}
}

// tcpLabels are what TCP metrics have besides.
func tcpLabels(r *telemetry.Record) []labelAssignment {
	return []labelAssignment{
		{"request_protocol", "tcp"},
		{"response_flags", r.Flags.String()},
		{"connection_security_policy", securityPolicy(r)},
	}
}

func securityPolicy(r *telemetry.Record) string {
	if r.PeerPrincipal != "" && r.LocalPrincipal != "" {
		return "mutual_tls"
	}
	return "none"
}

// destinationService names the destination: what the control plane said of the cluster, the name of a cluster that stands
// for no service, or (only if allowed) the Host header.
func destinationService(r *telemetry.Record, hostFallback bool) (host, name, namespace string) {
	if hostFallback && r.Authority != "" {
		host, name = r.Authority, r.Authority
	}
	switch {
	case isSpecialCluster(r.UpstreamCluster):
		name = r.UpstreamCluster
	case r.RouteName == "block_all":
		name = "BlackHoleCluster"
	case r.RouteName == "allow_any":
		name = "PassthroughCluster"
	case r.Service != nil:
		if r.Service.Host != "" {
			host = r.Service.Host
		}
		namespace = r.Service.Namespace
		if name = r.Service.Name; name == "" {
			name, _, _ = strings.Cut(host, ".")
		}
	}
	return host, name, namespace
}

func isSpecialCluster(name string) bool {
	switch name {
	case "BlackHoleCluster", "PassthroughCluster", "InboundPassthroughCluster", "InboundPassthroughClusterIpv4", "InboundPassthroughClusterIpv6":
		return true
	}
	return false
}

// spiffeNamespace is X of spiffe://trust.domain/ns/X/sa/Y.
func spiffeNamespace(principal string) string {
	_, rest, ok := strings.Cut(principal, "/ns/")
	if !ok {
		return ""
	}
	ns, _, _ := strings.Cut(rest, "/")
	return ns
}

func or(s, fallback string) string {
	if s != "" {
		return s
	}
	return fallback
}
