package route

import (
	"strings"

	"github.com/gowaypoint/gowaypoint/telemetry"
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
	path, ok := f.Path.apply(h.Path, rec)
	if !ok {
		return
	}
	if keepOriginal {
		h.Fields.Set(header.XEnvoyOriginalPath, h.Path)
	}
	h.Path = path
}

// apply returns the rewritten path; false: there is nothing to rewrite. A result that does not begin with "/" gets one, since
// backends read "GET foo" in different ways; Envoy sends it as it is.
func (p *PathRewrite) apply(path string, rec *telemetry.Record) (string, bool) {
	if path == "" {
		return "", false
	}
	matched := beforeQuery(path, false)
	rest := path[len(matched):]
	switch {
	case p.Prefix != "":
		if p.Matched >= 0 {
			if p.Matched > len(path) { // a filter changed the path and did not have it routed again
				return "", false
			}
			rest = path[p.Matched:]
		}
		path = p.Prefix + rest
	case p.Regex != nil:
		path = p.Regex.replace(matched) + rest
	case p.Full != nil:
		v, _ := p.Full.Value(rec)
		if v == "" || !safeValue(v) || strings.ContainsAny(v, " \t") {
			return "", false
		}
		path = v + rest
	default:
		return "", false
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return path, true
}

func (r *RegexRewrite) replace(s string) string { return r.Pattern.ReplaceAllString(s, r.Substitution) }
