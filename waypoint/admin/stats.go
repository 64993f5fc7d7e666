package admin

import (
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"

	"github.com/gowaypoint/gowaypoint/xdsclient"
)

// registerStats registers the stats that probes, dashboards and people read (contract P12, T3), with Envoy's names. They are asked
// for when shown.
func (s *Server) registerStats() {
	stats := s.src.Registry.Stats
	xds := func(prefix, typeURL string) {
		figure := func(name string, f func(xdsclient.TypeStats) uint64) {
			stats.GaugeFunc(func() uint64 { return f(s.src.XDS.Stats(typeURL)) }, prefix+name)
		}
		figure("update_success", func(t xdsclient.TypeStats) uint64 { return t.Accepted })
		figure("update_rejected", func(t xdsclient.TypeStats) uint64 { return t.Rejected })
		figure("update_attempt", func(t xdsclient.TypeStats) uint64 { return t.Attempts })
		figure("update_time", func(t xdsclient.TypeStats) uint64 {
			if t.LastUpdate.IsZero() {
				return 0
			}
			return positive(t.LastUpdate.UnixMilli())
		})
	}
	xds("cluster_manager.cds.", xdsclient.TypeCluster)
	xds("listener_manager.lds.", xdsclient.TypeListener)

	gauge := func(name string, f func() uint64) { stats.GaugeFunc(f, name) }
	gauge("cluster_manager.active_clusters", func() uint64 { return uint64(len(s.src.Clusters())) })
	gauge("cluster_manager.warming_clusters", func() uint64 {
		n := uint64(0)
		for _, c := range s.src.Clusters() {
			if !c.Config().Warm {
				n++
			}
		}
		return n
	})
	gauge("listener_manager.total_listeners_active", func() uint64 { return uint64(len(s.src.Listeners())) })
	gauge("listener_manager.workers_started", func() uint64 {
		_ = s.ready() // a state that nobody asked about yet
		_, was := s.startup()
		return truth(was)
	})

	gauge("server.state", func() uint64 { return uint64(s.state()) }) //nolint:gosec // an enum from 0 up
	gauge("server.live", func() uint64 { return truth(s.state() == adminv3.ServerInfo_LIVE) })
	gauge("server.uptime", func() uint64 { return positive(int64(time.Since(s.src.Started) / time.Second)) })
	gauge("server.version", func() uint64 { return versionNumber(s.src.Revision) })
	gauge("server.memory_allocated", func() uint64 { return readMemory().objects })
	gauge("server.memory_heap_size", func() uint64 { return readMemory().heap() })
	gauge("server.memory_physical_size", func() uint64 { m := readMemory(); return m.total - m.released })
	gauge("server.days_until_first_cert_expiring", s.daysToExpiry)

	// The control plane dashboard counts proxies by their connection to istiod.
	xdsCluster := func(name string, f func(xdsclient.Status) uint64) {
		stats.GaugeFunc(func() uint64 { return f(s.src.XDS.Status()) }, "cluster.{cluster_name}."+name, "xds-grpc")
	}
	xdsCluster("upstream_cx_active", func(st xdsclient.Status) uint64 { return truth(st.Connected) })
	xdsCluster("upstream_cx_total", func(st xdsclient.Status) uint64 { return st.Streams })
	xdsCluster("upstream_cx_connect_fail", func(st xdsclient.Status) uint64 { return st.Failures })
	xdsCluster("upstream_cx_rx_bytes_total", func(st xdsclient.Status) uint64 { return st.BytesReceived })
	xdsCluster("upstream_cx_tx_bytes_total", func(st xdsclient.Status) uint64 { return st.BytesSent })
	gauge("control_plane.connected_state", func() uint64 { return truth(s.src.XDS.Status().Connected) })
	gauge("workload_discovery.total", func() uint64 { return positive(int64(s.src.Workloads())) })
}

func truth(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// versionNumber is Envoy's: the first six hexadecimal digits of the revision as a number; 0 if they are none.
func versionNumber(revision string) uint64 {
	n := uint64(0)
	for _, c := range revision[:min(len(revision), 6)] {
		d := uint64(0)
		switch {
		case c >= '0' && c <= '9':
			d = uint64(c - '0')
		case c >= 'a' && c <= 'f':
			d = uint64(c-'a') + 10
		default:
			return 0
		}
		n = n<<4 | d
	}
	return n
}

// daysToExpiry is for the certificate that expires first, whether leaf or root.
func (s *Server) daysToExpiry() uint64 {
	first := time.Duration(-1)
	for _, sec := range s.src.Secrets() {
		for _, c := range append(sec.Chain[:len(sec.Chain):len(sec.Chain)], sec.Anchors...) {
			if left := max(time.Until(c.NotAfter), 0); first < 0 || left < first {
				first = left
			}
		}
	}
	return uint64(max(first, 0) / (24 * time.Hour))
}
