package admin

import (
	"bufio"
	"fmt"
	"maps"
	"net/http"
	"slices"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gowaypoint/gowaypoint/waypoint/cluster"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// clustersPage answers /clusters: lines of <cluster>::<endpoint>::<what>::<value>, or envoy.admin.v3.Clusters with ?format=json.
func (s *Server) clustersPage(w http.ResponseWriter, r *http.Request) {
	all := s.src.Clusters()
	if r.URL.Query().Get("format") == "json" {
		s.writeJSON(w, clusterStatuses(all))
		return
	}
	w.Header().Set("Content-Type", plainText)
	b := bufio.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		writeCluster(b, all[name])
	}
	_ = b.Flush() // fails only if the client has gone
}

// hostStat is a figure of an endpoint, in the alphabetical order in which Envoy prints them.
type hostStat struct {
	name  string
	gauge bool
	value uint64
}

func hostStats(h *cluster.Host) []hostStat {
	return []hostStat{
		{"cx_active", true, positive(h.Stats.ConnectActive.Load())},
		{"cx_connect_fail", false, h.Stats.ConnectFail.Load()},
		{"cx_total", false, h.Stats.ConnectTotal.Load()},
		{"rq_active", true, positive(h.Active())},
		{"rq_error", false, h.Stats.RequestsError.Load()},
		{"rq_success", false, h.Stats.RequestsSuccess.Load()},
		{"rq_timeout", false, h.Stats.RequestsTimeout.Load()},
		{"rq_total", false, h.Stats.RequestsTotal.Load()},
	}
}

func positive(n int64) uint64 { return uint64(max(n, 0)) }

func writeCluster(w *bufio.Writer, c *cluster.Cluster) {
	cfg := c.Config()
	line := func(what string, value any) { _, _ = fmt.Fprintf(w, "%s::%s::%v\n", c.Name, what, value) }
	line("observability_name", c.Name)
	l := cfg.Limits
	line("default_priority::max_connections", l.MaxConnections)
	line("default_priority::max_pending_requests", l.MaxPending)
	line("default_priority::max_requests", l.MaxRequests)
	line("default_priority::max_retries", l.MaxRetries)
	line("added_via_api", true)
	if cfg.Refused != nil {
		line("refused", cfg.Refused) // ours: Envoy has no such state
	}
	for _, h := range c.Hosts() {
		e := h.Endpoint()
		line := func(what string, value any) { line(e.Display+"::"+what, value) }
		for _, st := range hostStats(h) {
			line(st.name, st.value)
		}
		line("hostname", e.Hostname)
		line("health_flags", healthFlags(e))
		line("weight", e.Weight)
		line("region", e.Locality.Region)
		line("zone", e.Locality.Zone)
		line("sub_zone", e.Locality.SubZone)
		line("canary", false)
		line("priority", e.Priority)
		line("success_rate", -1)
		line("local_origin_success_rate", -1)
		if e.Refused != nil {
			line("refused", e.Refused)
		}
	}
}

// healthFlags says in Envoy's words why an endpoint is not used.
func healthFlags(e *program.Endpoint) string {
	switch e.Health {
	case program.Unhealthy:
		return "/failed_eds_health"
	case program.Draining:
		return "/eds_status_draining"
	case program.Degraded:
		return "/degraded_eds_health"
	}
	return "healthy"
}

func clusterStatuses(all map[string]*cluster.Cluster) *adminv3.Clusters {
	out := &adminv3.Clusters{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := all[name]
		l := c.Config().Limits
		status := &adminv3.ClusterStatus{
			Name: name, AddedViaApi: true, ObservabilityName: name,
			CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
				MaxConnections: wrapperspb.UInt32(l.MaxConnections), MaxPendingRequests: wrapperspb.UInt32(l.MaxPending),
				MaxRequests: wrapperspb.UInt32(l.MaxRequests), MaxRetries: wrapperspb.UInt32(l.MaxRetries),
			}}},
		}
		for _, h := range c.Hosts() {
			status.HostStatuses = append(status.HostStatuses, hostStatus(h))
		}
		out.ClusterStatuses = append(out.ClusterStatuses, status)
	}
	return out
}

func hostStatus(h *cluster.Host) *adminv3.HostStatus {
	e := h.Endpoint()
	out := &adminv3.HostStatus{
		Address: parseAddress(e.Display), HealthStatus: &adminv3.HostHealthStatus{EdsHealthStatus: edsHealth(e.Health)},
		Weight: e.Weight, Hostname: e.Hostname, Priority: e.Priority,
		Locality: &corev3.Locality{Region: e.Locality.Region, Zone: e.Locality.Zone, SubZone: e.Locality.SubZone},
	}
	for _, st := range hostStats(h) {
		m := &adminv3.SimpleMetric{Name: st.name, Value: st.value}
		if st.gauge {
			m.Type = adminv3.SimpleMetric_GAUGE
		}
		out.Stats = append(out.Stats, m)
	}
	return out
}

func edsHealth(h program.Health) corev3.HealthStatus {
	switch h {
	case program.Unhealthy:
		return corev3.HealthStatus_UNHEALTHY
	case program.Draining:
		return corev3.HealthStatus_DRAINING
	case program.Degraded:
		return corev3.HealthStatus_DEGRADED
	}
	return corev3.HealthStatus_HEALTHY
}
