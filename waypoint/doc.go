// Package waypoint is the proxy: it puts the parts together and runs them.
//
//	New      identity, xDS client, compiler, clusters, exchange; nothing runs yet
//	Run      everything, until the context ends and the drain is over
//
// The pieces of this package itself:
//
//	update.go   xDS in, Program out: validates, compiles, warms, swaps
//	listen.go   binds what the Program says and accepts HBONE
//	tunnel.go   a CONNECT stream's inside: address, sniffing, chain, HTTP or TCP
//	secrets.go  TLS contexts over the identity store
//	ready.go    when the pod may be sent traffic
//	drain.go    SIGTERM to exit
//
// The current Program is one atomic pointer. A tunnel looks it up when it opens and whenever it may have changed: for each
// request (HTTP), and when a new one is swapped in (TCP). Everything that outlives a Program is keyed by name in package
// cluster.
package waypoint
