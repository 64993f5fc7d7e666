// Package mesh is what stands around the proxies of a measurement: certificates, and one configuration in two forms.
//
// testdata/waypoint.json is what a real istiod sends a waypoint that serves one HTTP service (helloworld, port 8080, one pod that
// speaks HBONE), with addresses and policy left open. [Config.Resources] fills these in.
//
//   - A gowaypoint gets the resources as they are, over delta ADS from a [ControlPlane], with the workloads of client and pod
//     beside them.
//   - A stock Envoy cannot have all of it, so [Envoy] makes a static bootstrap: Istio's own filters (istio.stats, peer
//     metadata) are left out, the filter state factory istio.hashable_string, which is Istio's too, becomes envoy.string, secrets
//     come from the bootstrap instead of SDS, and endpoints are part of their cluster.
//
// So Envoy has less to do than in a real waypoint (no metrics by peer, no peer look-up) and comparisons are in its favour.
package mesh
