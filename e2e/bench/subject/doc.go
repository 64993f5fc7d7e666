// Package subject runs the proxies that are compared, each as a process of its own on a processor of its own, and reads what they
// cost.
//
//	Envoy     the stock binary, on a static bootstrap
//	Waypoint  this project's, on delta ADS
//	NetHTTP   net/http, x/net/http2 and ReverseProxy: what Go gives without a data path of one's own
//
// All three get the same [mesh.Config] and answer the same requests; a measurement begins with a check of that.
package subject
