// Package rbac compiles Envoy's RBAC configuration, which is what istiod makes of AuthorizationPolicy objects, into
// programs of package authz.
//
// [Compile] takes envoy.config.rbac.v3.RBAC; [FromHTTP], [FromHTTPPerRoute] and [FromNetwork] take the filters around
// it, with their shadow rules and the dynamic metadata keys that access logs and ext_authz read.
//
// Every field is either honoured, with Envoy's meaning, or refused with an error that names policy and field: a field
// is never ignored, since a policy without it could be a looser one. Refused are CEL conditions, custom principals,
// permission matcher extensions, custom string matchers, the matcher trees that may stand in for rules, audit
// logging, and fields newer than the protobufs compiled in. On an error the caller must refuse the traffic.
//
// Everything returned is immutable and safe for concurrent use.
package rbac
