// Package load is the client of a measurement: HBONE connections, tunnels on them, and HTTP/1.1 requests inside, at little cost
// and with every answer checked.
//
//	Conn     one TLS connection to the proxy
//	Tunnel   one CONNECT stream on it, with one HTTP/1.1 connection inside
//	Closed   each tunnel sends its next request when it has its answer
//	Open     requests are due at fixed times, whatever the proxy does
//	Churn    a new tunnel for each request
//
// A wrong status or length, a lost tunnel or a request that takes longer than [Patience] ends a run with an error: figures of a
// run that went wrong do not exist.
//
// Latency in the open loop counts from the moment at which a request was due, not from when it could be sent. Otherwise a
// proxy that stops for a while would be asked less during that while and look better than it is (coordinated omission).
package load
