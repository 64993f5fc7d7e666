// Package admin serves the ports that everything around the proxy talks to, with net/http:
//
//	15000  loopback  Envoy's admin interface: istioctl, Kiali, bug-report, people
//	15020  all       pilot-agent's status port: merged metrics, readiness, quit and drain from localhost, profiles
//	15021  all       /healthz/ready for the kubelet
//	15090  all       /stats/prometheus, the proxy's own metrics
//
// Paths, parameters, status codes and the shape of the answers are those of Envoy and of Istio's agent as far as a tool reads
// them. What is shown is what is: sources are asked at each request ([Sources]), nothing is kept here.
//
// # Promises
//
//   - /config_dump has every section at each call, and shows xDS resources as they were received: unknown extensions do not
//     break it, inline routes appear as static routes. Secrets are redacted: fields that the protos mark as sensitive, and
//     whatever is inside of a type that this program does not know (size and digest are shown instead of bytes).
//   - What changes something needs POST. A browser page of another origin cannot do it, although there is no authentication
//     and developers forward the port to their localhost; Envoy lets it.
//   - The admin port refuses to be bound to anything but loopback.
//   - No handler blocks the data path: sources hand out snapshots.
package admin
