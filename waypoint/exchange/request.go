package exchange

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/h1"
	"github.com/gowaypoint/gowaypoint/waypoint/header"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
	"github.com/gowaypoint/gowaypoint/waypoint/route"
)

// prepare makes the head what filters, routes and the backend see; false: the request has been answered.
func (e *exchange) prepare() bool {
	if !e.checkTarget() || !e.normalisePath() {
		return false
	}
	e.sanitise()
	if !e.checkUpgrade() { // may route the request, so not before path and headers are what policy will see
		return false
	}
	e.expect()
	e.identify()
	return true
}

// expect answers Expect: 100-continue itself unless proxy_100_continue leaves that to the backend, which istiod asks for.
func (e *exchange) expect() {
	h := &e.req
	if e.http.Proxy100Continue || !strings.EqualFold(h.Fields.Value(header.Expect), "100-continue") {
		return
	}
	h.Fields.Del(header.Expect)
	interim := message.Head{Status: http.StatusContinue}
	if e.writeHead(&interim, false) == nil {
		_ = e.down.Flush() // a client that has gone shows when its body is read
	}
}

// checkTarget refuses what has no authority, or a path that is not one. Codes and details are Envoy's.
func (e *exchange) checkTarget() bool {
	h := &e.req
	switch {
	case h.Authority == "":
		e.reply(filter.Reply{Status: http.StatusBadRequest, Details: "missing_host_header"})
		return false
	case h.Method == http.MethodConnect:
		return true // where it leads is for dispatch to say
	case !h1.ValidAuthority(h.Authority): // HTTP/1.1 has refused it already; HTTP/2 knows no such rule
		e.reply(filter.Reply{Status: http.StatusBadRequest, Details: "invalid_authority", Flag: telemetry.FlagDownstreamProtocolError})
		return false
	case h.Path == "":
		e.reply(filter.Reply{Status: http.StatusNotFound, Details: "missing_path_rejected"})
		return false
	case h.Path[0] != '/': // OPTIONS * is among them, as in Envoy
		e.reply(filter.Reply{Status: http.StatusNotFound, Details: "absolute_path_rejected"})
		return false
	}
	return true
}

// checkUpgrade lets through the protocols that the manager lists; CONNECT counts as one.
func (e *exchange) checkUpgrade() bool {
	token := e.req.Upgrade
	if e.req.Method == http.MethodConnect {
		token = "connect"
	}
	if token == "" {
		return true
	}
	for _, allowed := range e.http.Upgrades {
		if strings.EqualFold(allowed, token) {
			return true
		}
	}
	if r := e.match(); r != nil && r.Forward != nil && r.Forward.Upgrades[strings.ToLower(token)] {
		return true // the route allows it
	}
	e.reply(filter.Reply{Status: http.StatusForbidden, Details: "upgrade_failed"})
	return false
}

// upgradeDenied tells whether the route forbids an upgrade that the manager allows.
func (e *exchange) upgradeDenied(f *route.Forward) bool {
	if e.req.Upgrade == "" {
		return false
	}
	allowed, listed := f.Upgrades[strings.ToLower(e.req.Upgrade)]
	return listed && !allowed
}

// normalisePath strips the fragment, which policy and backend could read differently, and normalises as the manager says.
func (e *exchange) normalisePath() bool {
	h := &e.req
	if h.Path == "" {
		return true
	}
	path, unescaped, ok := pathnorm.Normalize(pathnorm.StripFragment(h.Path), pathnorm.Options{
		Normalize:       e.http.NormalizePath,
		MergeSlashes:    e.http.MergeSlashes,
		UnescapeSlashes: e.http.EscapedSlashes != program.KeepEscapedSlashes,
	})
	switch {
	case !ok, unescaped && e.http.EscapedSlashes == program.RejectEscapedSlashes:
		e.reply(filter.Reply{Status: http.StatusBadRequest, Details: "path_normalization_failed"})
		return false
	case unescaped && e.http.EscapedSlashes == program.RedirectUnescapedSlashes:
		e.reply(filter.Reply{Status: http.StatusTemporaryRedirect, Details: "path_normalization_failed",
			Headers: []string{"location", path}})
		return false
	}
	h.Path = path
	return true
}

// onlyProxiesSet are headers that a backend takes for a proxy's word. Envoy passes a client's on when use_remote_address is
// false; ours drops them.
var onlyProxiesSet = [...]header.ID{
	header.XEnvoyPeerMetadata, header.XEnvoyPeerMetadataID, header.XEnvoyExternalAddress,
	header.XEnvoyOriginalPath, header.XEnvoyOriginalHost, header.XEnvoyAttemptCount, header.XEnvoyInternal,
	header.XEnvoyExpectedRqTimeoutMs, header.XEnvoyDecoratorOperation,
}

// sanitise drops what a client may not say, and adds what the backend may expect.
func (e *exchange) sanitise() {
	h := &e.req
	h.Fields.DelFunc(func(f *header.Field) bool {
		if f.ID == header.Other {
			return false
		}
		for _, id := range onlyProxiesSet {
			if f.ID == id {
				return true
			}
		}
		return f.ID == header.XForwardedClientCert && !e.keepsClientCert()
	})
	scheme := "http"
	if e.x.Conn.TLS {
		scheme = "https"
	}
	if !h.Fields.Has(header.XForwardedProto) {
		h.Fields.AppendID(header.XForwardedProto, scheme)
	}
	if h.Scheme == "" {
		h.Scheme = scheme
	}
	if local := e.x.Conn.Local; e.http.AppendXForwardedPort && local.IsValid() && !h.Fields.Has(header.XForwardedPort) {
		h.Fields.AppendID(header.XForwardedPort, strconv.Itoa(int(local.Port())))
	}
}

// keepsClientCert tells whether x-forwarded-client-cert of the client is passed on. Envoy forwards it only on connections
// with mutual TLS, unless ALWAYS_FORWARD_ONLY; a tunnel's inside has no TLS of its own. APPEND_FORWARD and SANITIZE_SET, which
// istiod sets on the HBONE port, concern CONNECT requests only, and those end here.
func (e *exchange) keepsClientCert() bool {
	switch e.http.ClientCert {
	case program.AlwaysForwardOnlyClientCert:
		return true
	case program.ForwardOnlyClientCert:
		return e.x.Conn.TLS
	default:
		return false
	}
}

// identify gives the request its id and begins its span.
func (e *exchange) identify() {
	h := &e.req
	if h.Method == http.MethodConnect && h.Upgrade == "" && e.http.Tracer == nil {
		return // the CONNECT ends here: nobody would see an id
	}
	if e.http.GenerateRequestID && !h.Fields.Has(header.XRequestID) {
		h.Fields.AppendID(header.XRequestID, e.env.RequestID())
	}
	e.startSpan()
	e.rec.RequestID = h.Fields.Value(header.XRequestID)
}

// serverHeader applies server_header_transformation.
func (e *exchange) serverHeader(h *message.Head) {
	switch e.http.ServerHeader {
	case program.PassServerThrough:
	case program.AppendServerIfAbsent:
		if !h.Fields.Has(header.Server) {
			h.Fields.AppendID(header.Server, e.http.ServerName)
		}
	default:
		h.Fields.Set(header.Server, e.http.ServerName)
	}
}

var _ telemetry.Headers = (*message.Head)(nil)
