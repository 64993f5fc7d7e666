// Package xdsclient keeps one delta ADS stream to a control plane (istiod) and the resources that came over it.
//
// It has two halves. A state machine without I/O (machine.go, subscription.go, response.go) holds what is subscribed, what
// was accepted and what has to be sent next; the text files in testdata walk through it. A thin shell (client.go, dial.go)
// connects, reads, calls the consumer and sends. Nothing here knows what a listener is: the consumer, a [Handler], validates.
//
// # What the consumer can rely on
//
//   - Apply is called from one goroutine, one response at a time, and only if there is something new: resources whose bytes
//     differ from those in force, names that went away, or the first response of a type (which may be empty, and says
//     that "there are none" is now knowledge and not ignorance). istiod resends unchanged resources often; those are
//     recognised by their bytes and end here.
//   - What Apply rejects stays out: the last good version remains in force and in the cache, the rejected one is kept beside it
//     for the error_state of a config dump, and the NACK names each rejected resource and field. The good resources of the same
//     response are in force. (Delta xDS has no NACK per resource: the NACK is for people, istiod sends nothing again.)
//   - Every response that belongs to a subscription is answered with its own nonce as soon as Apply returns, empty ones as well;
//     istioctl proxy-status shows STALE otherwise.
//   - Names subscribed from within Apply are asked for directly after the ACK of the response being applied, in one request per
//     type: EDS follows CDS that way. From other goroutines: at once, or after the Apply that is under way.
//   - Subscribing brings a response with that name (istiod: an empty ClusterLoadAssignment if it knows nothing), also if the name
//     was unsubscribed a moment before and the server has not heard of it.
//   - What was unsubscribed is forgotten at once, without an Update: the consumer knows.
//   - What has not changed is not told again, even if something that refers to it has: a cluster that changes keeps the endpoints
//     that the consumer has of it. [Client.Get] returns what is in force.
//   - After a reconnect the client tells the server what it holds (initial_resource_versions), goes on serving it meanwhile, and
//     hears of what changed or vanished in between.
//
// # The order in which istiod pushes
//
// CDS, EDS, LDS, RDS, SDS, ECDS, then the workload types; requests of a new stream leave in the same order, all at once. A change
// of clusters and listeners therefore arrives as two Updates, and endpoints of a new cluster as a third after they were asked for.
// Holding a cluster back until its endpoints came, and a listener until its secrets came (warming), is the consumer's part;
// [Update.First] and [TypeSnapshot.Received] tell what has arrived. There is no time limit on waiting (Envoy's
// initial_fetch_timeout 0, as Istio configures it).
//
// # istiod's ways that are dealt with here
//
// Resource versions are empty, except for workloads. An unknown EDS name yields an empty assignment, not a removal. ECDS resources
// are never removed, unsubscribing gets no answer, LDS is always the whole set with computed removals. A spontaneous request must
// change the subscription and an ACK must not; so they are always separate requests. A request of a type without names would
// mean "all of it", so a type with no names is not asked for. Connections are recycled about every 30 minutes, and new ones are
// rate limited (RESOURCE_EXHAUSTED), which is why reconnecting waits with jitter.
//
// # Limits
//
// Received messages are not limited in size: istiod is trusted. Resource TTLs, dynamic parameters (resource_name) and the
// on-demand glob forms (xdstp) are not spoken; a resource that uses one of the first two is rejected by name.
package xdsclient
