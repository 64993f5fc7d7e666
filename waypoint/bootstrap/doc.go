// Package bootstrap works out what the waypoint knows about itself before it has spoken to istiod: who and
// where it is, whom to ask, which ports to open and how to end. It takes the place of Istio's pilot-agent.
//
// [Load] is a function of the command line, the environment and the mounted files; it opens no connection
// and starts nothing, so that tests are text in, text out. Its sources, each overriding the one before, are
//
//	built-in defaults ← --meshConfig file ← env PROXY_CONFIG ← annotation proxy.istio.io/config
//	← annotations sidecar.istio.io/discoveryAddress, status.sidecar.istio.io/port ← command line
//
// Nothing is ignored in silence: what is set and has no effect, or another effect than under Envoy, is in
// [Bootstrap.Reports]. What would give the workload another identity, or another policy, than its operator
// asked for is an error.
package bootstrap
