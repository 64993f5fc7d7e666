// Package accesslog compares access logs: the same requests through our waypoint and through a real Envoy, on the configuration
// of istiod's in package bench/mesh, with a log that has every operator which needs no filter of Istio's. Each line must be equal,
// save times, ids and ports, and save the differences that testdata/differences.txt explains.
package accesslog
