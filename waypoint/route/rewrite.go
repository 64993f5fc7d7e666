package route

import (
	"strings"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// ApplyRequest makes a request's head what the upstream gets: header operations, then the host's rewrite, then the path's,
// which is Envoy's order; so a value such as %REQ(:PATH)% shows the path before the rewrite. choice is what [Forward.Choose]
// returned, or nil. Operators read rec, whose RequestHeaders should be h. Call it once for a request, not for each attempt.
func (r *Route) ApplyRequest(h *message.Head, choice *WeightedCluster, rec *telemetry.Record) {
	if choice != nil {
		choice.RequestHeaders.apply(h, rec)
		if choice.HostRewrite != "" {
			// In Envoy this one leaves neither x-envoy-original-host nor x-forwarded-host.
			h.Authority = choice.HostRewrite
		}
	}
	v, c := r.Host, r.Host.Config
	if c.MostSpecificHeaderMutationsWins {
		c.RequestHeaders.apply(h, rec)
		v.RequestHeaders.apply(h, rec)
		r.RequestHeaders.apply(h, rec)
	} else {
		r.RequestHeaders.apply(h, rec)
		v.RequestHeaders.apply(h, rec)
		c.RequestHeaders.apply(h, rec)
	}
	if r.Forward != nil {
		r.Forward.rewriteHost(h, rec, c.OriginalHeaders)
		r.Forward.rewritePath(h, rec, c.OriginalHeaders)
	}
}

// ApplyResponse applies the header operations to a response's head, also to that of a redirect or a direct response. Operators
// read rec; %RESP(…)% and %RESPONSE_CODE% are those of h.
func (r *Route) ApplyResponse(h *message.Head, choice *WeightedCluster, rec *telemetry.Record) {
	if rec != nil {
		headers, code := rec.ResponseHeaders, rec.ResponseCode
		rec.ResponseHeaders, rec.ResponseCode = h, h.Status
		defer func() { rec.ResponseHeaders, rec.ResponseCode = headers, code }()
	}
	if choice != nil {
		choice.ResponseHeaders.apply(h, rec)
	}
	v, c := r.Host, r.Host.Config
	if c.MostSpecificHeaderMutationsWins {
		c.ResponseHeaders.apply(h, rec)
		v.ResponseHeaders.apply(h, rec)
		r.ResponseHeaders.apply(h, rec)
	} else {
		r.ResponseHeaders.apply(h, rec)
		v.ResponseHeaders.apply(h, rec)
		c.ResponseHeaders.apply(h, rec)
	}
}

func (f *Forward) rewriteHost(h *message.Head, rec *telemetry.Record, keepOriginal bool) {
	host := f.HostRewrite
	switch {
	case host != "":
	case f.HostHeader != "":
		host, _ = h.Get(f.HostHeader)
	case f.HostPathRegex != nil:
		host = f.HostPathRegex.replace(beforeQuery(h.Path, false))
	case f.HostFormat != nil:
		host, _ = f.HostFormat.Value(rec)
	}
	if host == "" || !safeValue(host) {
		return
	}
	if f.AppendXFH && h.Authority != "" {
		appendForwardedHost(&h.Fields, h.Authority)
	}
	if keepOriginal {
		h.Fields.Set(header.XEnvoyOriginalHost, h.Authority)
	}
	h.Authority = host
}

// appendForwardedHost adds a host to x-forwarded-host, unless it is the last one there already.
func appendForwardedHost(f *header.Fields, host string) {
	list := f.Value(header.XForwardedHost)
	if list == "" {
		f.Set(header.XForwardedHost, host)
		return
	}
	if last := list[strings.LastIndexByte(list, ',')+1:]; strings.TrimSpace(last) != host {
		f.Set(header.XForwardedHost, list+","+host)
	}
}

func (f *Forward) rewritePath(h *message.Head, rec *telemetry.Record, keepOriginal bool) {
	path, ok := "", false
	if f.PathFormat != nil {
		path, ok = replaceAll(h.Path, f.PathFormat, rec)
	} else {
		path, ok = rewritten(h.Path, f.PrefixRewrite, f.matched, f.RegexRewrite)
	}
	if !ok {
		return
	}
	if keepOriginal {
		h.Fields.Set(header.XEnvoyOriginalPath, h.Path)
	}
	h.Path = path
}

// rewritten is path after a prefix_rewrite or a regex_rewrite; false: there is none.
func rewritten(path, prefix string, matched int, re *RegexRewrite) (string, bool) {
	if path == "" || prefix == "" && re == nil {
		return "", false
	}
	whole := len(beforeQuery(path, false))
	if re != nil {
		return rooted(re.replace(path[:whole]) + path[whole:]), true
	}
	if matched < 0 {
		matched = whole
	}
	if matched > len(path) { // a filter has changed the path and did not have it routed again
		return "", false
	}
	return rooted(prefix + path[matched:]), true
}

// replaceAll puts the format's text in the place of the path before the query.
func replaceAll(path string, f *format.Format, rec *telemetry.Record) (string, bool) {
	v, _ := f.Value(rec)
	if path == "" || v == "" || !safeValue(v) || strings.Contains(v, " ") {
		return "", false
	}
	return rooted(v + path[len(beforeQuery(path, false)):]), true
}

// rooted gives a path that does not begin with "/" one, since backends read "GET foo" in different ways; Envoy sends it as it
// is.
func rooted(path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	return "/" + path
}

func (r *RegexRewrite) replace(s string) string { return r.Pattern.ReplaceAllString(s, r.Substitution) }
