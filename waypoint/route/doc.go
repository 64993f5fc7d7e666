// Package route picks what to do with a request: virtual host by authority, route by path, method, headers, query and
// metadata, then an action. It compiles an envoy.config.route.v3.RouteConfiguration once and matches without allocating.
//
// Envoy's order holds: a virtual host by exact domain, then suffix wildcard ("*.a"), then prefix wildcard ("a.*"), then "*";
// within it the first route that matches. A route that was found but whose cluster does not exist is still the answer (NC, 503
// or what cluster_not_found_response_code says): the search does not go on.
//
// A Config is immutable and safe for concurrent use.
//
//	cfg, notes, err := route.Compile(rc, route.Options{})
//	r := cfg.Match(&route.Request{Head: head})        // nil: 404
//	choice := r.Forward.Choose(rand.Uint64())         // or r.Redirect.Location(head), or r.Direct
//	r.ApplyRequest(head, choice, record)              // and r.ApplyResponse on the way back
//
// # What is not honoured
//
// Nothing is passed over in silence. Compile fails where Envoy would refuse the configuration too, with an error that names the
// virtual host, route and field. A field that is valid and not honoured is in its notes. Where a request could pass, or go
// elsewhere, because of it, the route is Refused: it still stands in its place, so that what it was meant for does not fall
// through to a later route, and answers 500. audit.go lists the fields.
//
// # Differences from Envoy
//
//   - A rewritten path that does not begin with "/" gets one; Envoy sends it as it is.
//   - A header value with a line break or NUL, which an operator can bring from a claim, is left out; Envoy sends it.
//   - content-length and transfer-encoding are never added by a route.
//   - APPEND_IF_EXISTS_OR_ADD always adds a line of its own; Envoy joins some well-known fields into one line.
//   - Direct response bodies have no limit but that of the configuration's size.
//   - require_tls on "host:80" redirects to "https://host"; Envoy keeps the port that can only fail.
package route
