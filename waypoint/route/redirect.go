package route

import (
	"strconv"
	"strings"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// Location is the absolute URL that the client is sent to. What the action does not name is the request's. As in Envoy a port
// in the request's Host goes when the action names another, and a default port goes when the scheme changes from the one that
// it belongs to; the query stays unless strip_query says otherwise or path_redirect brings its own.
func (r *Redirect) Location(h *message.Head) string {
	was := h.Scheme
	if was == "" {
		was = "http"
	}
	scheme := was
	if r.HTTPS {
		scheme = "https"
	} else if r.Scheme != "" {
		scheme = r.Scheme
	}
	host := r.Host
	if host == "" {
		host = r.requestHost(h.Authority, was, scheme)
	}
	if r.Port != 0 {
		host += ":" + strconv.FormatUint(uint64(r.Port), 10)
	}
	return scheme + "://" + host + r.path(h.Path)
}

func (r *Redirect) requestHost(host, was, scheme string) string {
	i := portStart(host)
	if i < 0 {
		return host
	}
	port := host[i:]
	if r.Port != 0 || was != scheme && (was == "https" && port == ":443" || was == "http" && port == ":80") {
		return host[:i]
	}
	return host
}

func (r *Redirect) path(path string) string {
	ownQuery := false
	if r.Path != "" {
		ownQuery = strings.Contains(r.Path, "?")
		_, query, ok := strings.Cut(path, "?")
		path = r.Path
		if ok && !ownQuery {
			path += "?" + query
		}
	} else if p, ok := rewritten(path, r.PrefixRewrite, r.matched, r.RegexRewrite); ok {
		path = p
	}
	path = rooted(path)
	if r.StripQuery && !ownQuery {
		path, _, _ = strings.Cut(path, "?")
	}
	return path
}
