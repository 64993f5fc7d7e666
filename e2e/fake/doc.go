// Package fake runs a real waypoint.Server on what istiod makes of Kubernetes and Istio manifests, in one process.
//
// [Start] takes YAML. istiod's own code, set up by its test server, turns it into xDS and serves that over gRPC; our Server takes
// it as it would in a cluster. The pods of the manifests are there too: those with a service account can be clients, which open
// real HBONE connections with a certificate of that account, and those with containers run an application, behind an HBONE
// terminator if the pod is redirected to ztunnel. Both ends of HBONE are golang.org/x/net/http2 and crypto/tls, and so nothing
// of ours is on either side of the Server.
//
// Addresses are virtual: the pod 10.a.b.c sends from the loopback address 127.a.b.c, which the Server is made to see as
// 10.a.b.c, and what the Server dials is looked up among the pods.
//
// Most tests are fixtures, testdata/*.txt: a paragraph that says what is shown and why, manifests on top of testdata/base.yaml,
// and requests with what must come of them. fixture.go describes the form. Every fixture also fails when the field census of the
// configuration has an entry that is refused, or one that is reported without a reason in fields.txt.
package fake
