// Package metrics keeps the counters of the proxy and shows them to Prometheus.
//
// Three kinds live here, each with the cost that fits it:
//
//   - [Mesh]: Istio's standard metrics (istio_requests_total …), label for label as the Envoy waypoint has them. Their
//     values are added to on every request, so a series is found by one lookup of a comparable key and then updated with
//     atomic additions: no allocation, no lock that writers share.
//   - [Stats]: counters and gauges with Envoy's names (cluster_manager.cds.update_success, server.state …), for the
//     readiness probe, istioctl and dashboards; as "name: value" text, as JSON, and as envoy_* in Prometheus.
//   - collectors of client_golang, for everything else: the agent's own metrics, process and Go runtime, and whatever
//     another package registers.
//
// [Registry] holds all three and renders them: [Registry.ProxyHandler] for port 15090, [Registry.MergedHandler] for 15020,
// where the agent's metrics (prefix istio_agent_) come first and the proxy's follow.
//
// The package has two metrics of its own: waypoint_telemetry_series (label sets that exist) and
// waypoint_telemetry_series_overflow_total (label sets that did not fit).
//
// Series expire when idle, and their number is bounded: a peer must not be able to fill our memory by inventing label
// values. What does not fit is counted in one series with unknown labels, and how often that happens is a metric itself.
package metrics
