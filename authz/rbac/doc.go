// Package rbac compiles Envoy's RBAC configuration, which is what istiod makes of AuthorizationPolicy objects, into
// programs of package authz.
//
// [Compile] takes envoy.config.rbac.v3.RBAC; [FromHTTP], [FromHTTPPerRoute] and [FromNetwork] take the filters around
// it, with their shadow rules and the dynamic metadata keys that access logs and ext_authz read. In place of rules a filter may
// have a matcher tree (xds.type.matcher.v3.Matcher with actions envoy.config.rbac.v3.Action): see below.
//
// Every field is either honoured, with Envoy's meaning, or refused with an error that names policy and field: a field
// is never ignored, since a policy without it could be a looser one. On an error the caller must refuse the traffic. Refused are
//
//   - CEL: condition, checked_condition, cel_config, and the attributes of matcher trees;
//   - custom string matchers, and permission matcher extensions, of which there is one: upstream_ip_port;
//   - principal extensions other than mtls_authenticated, and of that certificate names that are not URI or DNS;
//   - enforcement_type CONTINUOUS, and audit loggers that are unknown and not optional;
//   - of matcher trees keep_matching (Envoy's RBAC refuses it too), the inputs source port, network namespace and environment
//     variable, the field of a filter state object, and the input matchers that count or hash;
//   - fields newer than the protobufs compiled in.
//
// Everything returned is immutable and safe for concurrent use.
//
// # Matcher trees
//
// A tree becomes a list of rules of which the first that matches decides (authz.CompileOrdered), with the meaning that Envoy
// 1.40 gives it:
//
//   - A request that reaches no action is denied, in no policy's name. LOG lets pass.
//   - A branch that ends without an action is no dead end: the next matcher of the list, the next shorter prefix, the next wider
//     range or domain is tried, then on_no_match, then what comes after in the matcher above.
//   - An attribute that is not there matches nothing, so not_matcher of it holds. The names of a certificate are another matter:
//     without TLS there is no data, which ends the search with a denial.
//   - Of equally long ranges the first counts, and an exclusive one only if no other contains the address before it. Domains are
//     compared with the case of their letters; "*" is any name but the empty one.
//   - SourceIPInput is the client by trusted forwarding headers, unlike the principal source_ip.
//   - A header on several lines is their values joined with commas. Here an allow also needs each of them to match, and a deny
//     needs only one, as everywhere (see package authz).
package rbac
