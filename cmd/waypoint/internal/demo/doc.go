// Package demo is `waypoint demo`: the waypoint with everything around it on one machine, with nothing installed.
//
//	manifests ──► controlplane ══ADS, CSR══► waypoint ══HBONE══► destination node ──► hello world
//	(reloaded when they change)                 ▲
//	        curl ──► the way in (HTTP) ──► client node ══HBONE
//
// The waypoint is the very code of `waypoint proxy`: bootstrap from environment and files, identity by CSR, xDS client, admin.
// Only its sockets are led elsewhere: virtual addresses, of services, pods and the waypoint, are mapped to loopback.
package demo
