// Package route picks what to do with a request: virtual host by authority, route by path, method, headers, query and
// metadata, then an action. It compiles an envoy.config.route.v3.RouteConfiguration once and matches without allocating.
//
// Envoy's order holds: a virtual host by exact domain, then suffix wildcard ("*.a"), then prefix wildcard ("a.*"), then "*";
// within it the first route that matches. A route that was found but whose cluster does not exist is still the answer (NC, 503
// or what cluster_not_found_response_code says): the search does not go on.
//
// A Config is immutable and safe for concurrent use.
package route
