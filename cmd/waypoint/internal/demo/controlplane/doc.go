// Package controlplane is the demo's istiod: it turns manifests into the xDS resources that istiod sends to a waypoint, and
// serves them over delta ADS.
//
//	resources, err := controlplane.Build(mesh, controlplane.Options{})  // pure
//	server.Set(resources)                                               // what changed goes out to the waypoint
//
// Shapes, names and defaults of the resources are those of istiod; a test holds them against what a real one sent for the same
// manifests. What the demo adds is optional and in [Options]: an access log, from which the demo prints its lines, and a
// collector for traces, both of which an Istio user configures with a Telemetry object.
package controlplane
