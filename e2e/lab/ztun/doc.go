// Package ztun is what the lab has in the place of ztunnel: just enough of the
// node proxy to send HTTP through a waypoint and to receive what the waypoint
// sends on.
//
//   - [Fetch] gets a workload's certificate from istiod, the way any proxy does:
//     CSR, service account token, IstioCertificateService.
//   - [Server] is a destination's side: it terminates HBONE (TLS 1.3 with the
//     workload's certificate, HTTP/2 CONNECT) for one pod address and connects
//     to the application on it.
//   - [Pool] is a source's side: it opens tunnels through a waypoint or straight
//     to a pod, keeps the connection, and moves to a new one when the peer says
//     GOAWAY, as ztunnel does.
//
// It is test equipment, written to be read: it uses net/http's HTTP/2 as it is
// and copies bytes. It does not choose destinations, enforce L4 policy, or
// speak for more than one workload at a time.
package ztun
