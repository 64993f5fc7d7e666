// Package conformance is what a stranger would try on a waypoint: every case of h2spec, on the HBONE port and on HTTP/2 inside a
// tunnel; request smuggling over HTTP/1.1; and floods that are cheap to send. All of it goes over sockets to a waypoint that
// runs as it does in a cluster, with what a real istiod sends (package bench/mesh) and a pod behind HBONE.
//
//   - h2spec: exceptions are in the table of h2spec_test.go with their reason. One that is not needed fails the test.
//   - Smuggling: testdata/smuggling.txt has the bytes that are sent and, beside each other, what the pod got through us and
//     through a real Envoy 1.40 (build tag envoy). What goes on must be one way to read only, and not more than Envoy lets go on.
//   - Abuse: who floods is cut off with the right GOAWAY after a bounded number of frames, and others notice nothing.
package conformance
