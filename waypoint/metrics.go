package waypoint

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gowaypoint/gowaypoint/waypoint/config"
)

// collector shows the proxy's own state beside Istio's metrics: what is configured and not honoured, how old the configuration
// is, what the data path does, and what was dropped rather than let anybody wait.
type collector struct {
	s *Server

	census, refusals, compiles, compileSeconds, age, programVersion *prometheus.Desc
	requests, active, local, malformed, resets, retries, refused    *prometheus.Desc
	mirrors, mirrorsLeftOut                                         *prometheus.Desc
	tcpSessions, tcpActive, tcpDenied, tcpFailed                    *prometheus.Desc
	hboneConns, hboneActive, hboneFailed, hboneStreams              *prometheus.Desc
	windowLimit, windowGrown, windowQueued, tunnelConns             *prometheus.Desc
	logDropped, logErrors, spansSent, spansDropped, spansFailed     *prometheus.Desc
	entriesSent, entriesDropped, entriesFailed                      *prometheus.Desc
	xdsBytes, xdsConnected, xdsFailures                             *prometheus.Desc
}

func newCollector(s *Server) *collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("waypoint_"+name, help, labels, nil)
	}
	return &collector{
		s:              s,
		census:         d("config_fields", "Fields set in the configuration in force, by what becomes of them.", "class"),
		refusals:       d("config_refusals", "Parts of the configuration in force that serve nobody; see /census."),
		compiles:       d("config_compiles_total", "Compilations of the configuration."),
		compileSeconds: d("config_compile_seconds", "Duration of the last compilation."),
		age:            d("config_age_seconds", "Time since the configuration in force was put there."),
		programVersion: d("config_version", "Number of the configuration in force, counted by this process."),
		requests:       d("requests_total", "HTTP requests, the CONNECT of each tunnel included."),
		active:         d("requests_active", "HTTP requests under way, the CONNECT of a tunnel until it is answered."),
		local:          d("local_replies_total", "Answers that the proxy gave itself."),
		malformed:      d("malformed_requests_total", "Requests that broke the rules of their protocol."),
		resets:         d("downstream_resets_total", "Requests that their clients gave up."),
		retries:        d("retries_total", "Attempts beyond the first."),
		refused:        d("refused_requests_total", "Requests answered 500 because the configuration cannot be honoured."),
		mirrors:        d("mirrored_requests_total", "Copies of requests that were sent."),
		mirrorsLeftOut: d("mirrored_requests_left_out_total", "Copies that were not sent: the body was not there, or the cluster."),
		tcpSessions:    d("tcp_sessions_total", "TCP sessions."),
		tcpActive:      d("tcp_sessions_active", "TCP sessions that are open."),
		tcpDenied:      d("tcp_sessions_denied_total", "TCP sessions that policy or configuration refused."),
		tcpFailed:      d("tcp_sessions_failed_total", "TCP sessions that reached no endpoint."),
		hboneConns:     d("hbone_connections_total", "HBONE connections accepted."),
		hboneActive:    d("hbone_connections_active", "HBONE connections that are open."),
		hboneFailed:    d("hbone_handshakes_failed_total", "Connections that did not pass the TLS handshake."),
		hboneStreams:   d("hbone_streams_active", "Tunnels that are open."),
		windowLimit:    d("window_budget_bytes", "Bound on what receive windows and queues may take."),
		windowGrown:    d("window_grown_bytes", "What receive windows have grown beyond their first size."),
		windowQueued:   d("window_queued_bytes", "Bytes received and not read yet."),
		tunnelConns:    d("upstream_hbone_connections_active", "HBONE connections to endpoints."),
		logDropped:     d("access_log_dropped_total", "Lines dropped because the log's reader was too slow."),
		logErrors:      d("access_log_errors_total", "Writes to access logs that failed."),
		spansSent:      d("spans_sent_total", "Spans that a collector took."),
		entriesSent:    d("access_log_entries_sent_total", "Entries handed to log services (gRPC ALS, OpenTelemetry)."),
		entriesDropped: d("access_log_entries_dropped_total", "Entries dropped because too many were waiting for a log service."),
		entriesFailed:  d("access_log_entries_failed_total", "Entries that a log service did not take."),
		spansDropped:   d("spans_dropped_total", "Spans dropped because the queue was full."),
		spansFailed:    d("spans_failed_total", "Spans that no collector took."),
		xdsBytes:       d("xds_received_bytes_total", "Bytes of configuration received from istiod."),
		xdsConnected:   d("xds_connected", "1 while istiod answers."),
		xdsFailures:    d("xds_connection_failures_total", "Attempts to reach istiod that failed."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	s := c.s
	r := s.report.Load()
	for class, n := range r.Counts {
		gauge(c.census, float64(n), config.Class(class).String())
	}
	gauge(c.refusals, float64(len(r.Refusals)))
	counter(c.compiles, s.updates.compiles.Load())
	gauge(c.compileSeconds, time.Duration(s.updates.compileTime.Load()).Seconds())
	if at := s.updates.swapped.Load(); at != 0 {
		gauge(c.age, time.Since(time.Unix(0, at)).Seconds())
	}
	gauge(c.programVersion, float64(s.current.Load().Version))

	x := &s.exchange.Stats
	counter(c.requests, x.Requests.Load())
	gauge(c.active, float64(x.Active.Load()))
	counter(c.local, x.LocalReplies.Load())
	counter(c.malformed, x.Malformed.Load())
	counter(c.resets, x.DownstreamReset.Load())
	counter(c.retries, x.Retries.Load())
	counter(c.refused, x.Refused.Load())
	counter(c.mirrors, x.Mirrors.Load())
	counter(c.mirrorsLeftOut, x.MirrorsLeftOut.Load())

	t := &s.tcp.Stats
	counter(c.tcpSessions, t.Sessions.Load())
	gauge(c.tcpActive, float64(t.Active.Load()))
	counter(c.tcpDenied, t.Denied.Load())
	counter(c.tcpFailed, t.Failed.Load())

	accepted, active, failed := s.ports.counts()
	counter(c.hboneConns, accepted)
	gauge(c.hboneActive, float64(active))
	counter(c.hboneFailed, failed)
	gauge(c.hboneStreams, float64(s.ports.streams()))
	gauge(c.windowLimit, float64(s.budget.Limit()))
	gauge(c.windowGrown, float64(s.budget.Grown()))
	gauge(c.windowQueued, float64(s.budget.Queued()))
	gauge(c.tunnelConns, float64(s.clusters.TunnelConns()))

	counter(c.logDropped, s.files.Dropped())
	counter(c.logErrors, s.files.WriteErrors())
	entries := s.logs.Counts()
	counter(c.entriesSent, entries.Sent)
	counter(c.entriesDropped, entries.Dropped)
	counter(c.entriesFailed, entries.Failed)
	spans := s.tracing.Counts()
	counter(c.spansSent, spans.Sent)
	counter(c.spansDropped, spans.Dropped)
	counter(c.spansFailed, spans.Failed)

	st := s.xds.Status()
	counter(c.xdsBytes, st.BytesReceived)
	connected := 0.0
	if st.Connected {
		connected = 1
	}
	gauge(c.xdsConnected, connected)
	counter(c.xdsFailures, st.Failures)
}
