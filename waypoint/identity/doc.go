// Package identity holds what the waypoint proves about itself and what it believes about others:
// the workload key and certificate, the trust bundle, every other secret that xDS names, and the
// [tls.Config] values made from them.
//
// The parts, in the order in which data moves:
//
//	Source ──certificate, roots──► Store ◄──tls.v3.Secret── xDS
//	(CSR to istiod, or files)        │ atomic reads, one per handshake
//	                                 ▼
//	         DownstreamTlsContext ► ServerContext ► tls.Config
//	         UpstreamTlsContext   ► ClientContext ► tls.Config
//
// A [Source] obtains the certificate and renews it; a [Store] keeps secrets by their SDS name; the two
// contexts are compiled once from xDS and look secrets up in the Store at each handshake, so a rotation
// takes effect on the next connection and closes none.
//
// Promises:
//
//   - Nothing is trusted by omission. A secret that has not arrived, an `invalid://` name or a removed
//     secret makes handshakes fail; it never makes them unverified.
//   - A field of a TLS context that this package does not know refuses the whole context. Fields that
//     are known and not honoured without harm are returned as [Note] values.
//   - Go's own certificate verification is switched off only where it is replaced: Envoy verifies a
//     chain without a host name, which crypto/tls cannot express. [verifier.check] is that replacement.
//   - Private keys stay inside: [Store.Secrets] redacts them as Envoy's config_dump does.
//
// Everything exported is safe for concurrent use unless its comment says otherwise.
package identity
