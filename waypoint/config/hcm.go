package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/program"
	"github.com/gowaypoint/gowaypoint/waypoint/route"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	uuidv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
)

// Envoy's defaults of http_connection_manager.
const (
	defaultServerName  = "envoy"
	defaultHeaderKiB   = 60
	defaultHeaderCount = 100
	defaultStreamIdle  = 5 * time.Minute
	defaultDownIdle    = time.Hour
	defaultDrain       = 5 * time.Second
)

// http maps an http_connection_manager, its filters and its routes.
func (c *chainCompiler) http(m *hcmv3.HttpConnectionManager) {
	common := m.GetCommonHttpProtocolOptions()
	h := &program.HTTP{
		StatPrefix:            m.GetStatPrefix(),
		ServerName:            m.GetServerName(),
		NormalizePath:         m.GetNormalizePath().GetValue(),
		MergeSlashes:          m.GetMergeSlashes(),
		UseRemoteAddress:      m.GetUseRemoteAddress().GetValue(),
		XFFTrustedHops:        m.GetXffNumTrustedHops(),
		GenerateRequestID:     m.GetGenerateRequestId() == nil || m.GetGenerateRequestId().GetValue(),
		PreserveRequestID:     m.GetPreserveExternalRequestId(),
		SkipXFFAppend:         m.GetSkipXffAppend(),
		AppendXForwardedPort:  m.GetAppendXForwardedPort(),
		Proxy100Continue:      m.GetProxy_100Continue(),
		AcceptHTTP10:          m.GetHttpProtocolOptions().GetAcceptHttp_10(),
		MaxRequestHeaderBytes: int(uint32or(m.GetMaxRequestHeadersKb(), defaultHeaderKiB)) << 10,
		MaxRequestHeaders:     int(uint32or(common.GetMaxHeadersCount(), defaultHeaderCount)),
		StreamIdleTimeout:     duration(m.GetStreamIdleTimeout(), defaultStreamIdle),
		RequestTimeout:        duration(m.GetRequestTimeout(), 0),
		RequestHeadersTimeout: duration(m.GetRequestHeadersTimeout(), 0),
		IdleTimeout:           duration(common.GetIdleTimeout(), defaultDownIdle),
		MaxConnectionDuration: duration(common.GetMaxConnectionDuration(), 0),
		MaxStreamDuration:     duration(common.GetMaxStreamDuration(), 0),
		DrainTimeout:          duration(m.GetDrainTimeout(), defaultDrain),
		HTTP2:                 http2(m.GetHttp2ProtocolOptions()),
	}
	if h.ServerName == "" {
		h.ServerName = defaultServerName
	}
	c.out.out.HTTP = h
	c.enums(m, h)
	c.upgrades(m.GetUpgradeConfigs(), h)
	c.requestID(m)

	logs, notes, err := c.opt.accessLogs(m.GetAccessLog())
	if err != nil {
		c.fail("access_log: %w", err)
	}
	h.Logs, c.out.notes = logs, append(c.out.notes, notes...)
	if m.GetTracing() != nil && c.opt.Tracer != nil {
		h.Tracer, notes, err = c.opt.Tracer(m)
		if err != nil { // a request is as safe without its span
			c.note("tracing: %v", err)
		}
		c.out.notes = append(c.out.notes, notes...)
	}
	named := c.httpFilters(m.GetHttpFilters(), h)
	c.routes(m, h, named)
}

// enums maps the fields whose values are listed; a value that is not known fails, as it may ask for more safety.
func (c *chainCompiler) enums(m *hcmv3.HttpConnectionManager, h *program.HTTP) {
	switch m.GetCodecType() {
	case hcmv3.HttpConnectionManager_AUTO:
	case hcmv3.HttpConnectionManager_HTTP1:
		h.Codec = program.HTTP1Only
	case hcmv3.HttpConnectionManager_HTTP2:
		h.Codec = program.HTTP2Only
	default:
		c.fail("codec_type: %v is not supported", m.GetCodecType())
	}
	switch m.GetServerHeaderTransformation() {
	case hcmv3.HttpConnectionManager_OVERWRITE:
	case hcmv3.HttpConnectionManager_APPEND_IF_ABSENT:
		h.ServerHeader = program.AppendServerIfAbsent
	case hcmv3.HttpConnectionManager_PASS_THROUGH:
		h.ServerHeader = program.PassServerThrough
	default:
		c.fail("server_header_transformation: unknown value %d", m.GetServerHeaderTransformation())
	}
	switch m.GetPathWithEscapedSlashesAction() {
	case hcmv3.HttpConnectionManager_IMPLEMENTATION_SPECIFIC_DEFAULT, hcmv3.HttpConnectionManager_KEEP_UNCHANGED:
	case hcmv3.HttpConnectionManager_REJECT_REQUEST:
		h.EscapedSlashes = program.RejectEscapedSlashes
	case hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT:
		h.EscapedSlashes = program.RedirectUnescapedSlashes
	case hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD:
		h.EscapedSlashes = program.ForwardUnescapedSlashes
	default:
		c.fail("path_with_escaped_slashes_action: unknown value %d", m.GetPathWithEscapedSlashesAction())
	}
	switch m.GetForwardClientCertDetails() {
	case hcmv3.HttpConnectionManager_SANITIZE:
	case hcmv3.HttpConnectionManager_FORWARD_ONLY:
		h.ClientCert = program.ForwardOnlyClientCert
	case hcmv3.HttpConnectionManager_APPEND_FORWARD:
		h.ClientCert = program.AppendForwardClientCert
	case hcmv3.HttpConnectionManager_SANITIZE_SET:
		h.ClientCert = program.SanitizeSetClientCert
	case hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY:
		h.ClientCert = program.AlwaysForwardOnlyClientCert
	default:
		c.fail("forward_client_cert_details: unknown value %d", m.GetForwardClientCertDetails())
	}
	cc := m.GetSetCurrentClientCertDetails()
	h.ClientCertDetails = program.ClientCertDetails{
		Subject: cc.GetSubject().GetValue(), URI: cc.GetUri(), DNS: cc.GetDns(), Cert: cc.GetCert(), Chain: cc.GetChain(),
	}
	switch a := m.GetCommonHttpProtocolOptions().GetHeadersWithUnderscoresAction(); a {
	case corev3.HttpProtocolOptions_ALLOW:
	case corev3.HttpProtocolOptions_REJECT_REQUEST:
		h.RejectUnderscores = true
	case corev3.HttpProtocolOptions_DROP_HEADER:
		h.DropUnderscores = true
	default:
		c.fail("common_http_protocol_options.headers_with_underscores_action: unknown value %d", a)
	}
}

func (c *chainCompiler) upgrades(us []*hcmv3.HttpConnectionManager_UpgradeConfig, h *program.HTTP) {
	for _, u := range us {
		if len(u.GetFilters()) > 0 {
			c.fail("upgrade_configs %q: filters of its own are not supported", u.GetUpgradeType())
		}
		if u.GetEnabled() == nil || u.GetEnabled().GetValue() {
			h.Upgrades = append(h.Upgrades, strings.ToLower(u.GetUpgradeType()))
		}
	}
}

// requestID accepts the one extension that exists, which is also what request ids are without it. Its options are the tracer's.
func (c *chainCompiler) requestID(m *hcmv3.HttpConnectionManager) {
	e, err := c.any(m.GetRequestIdExtension().GetTypedConfig())
	if _, ok := e.Message.(*uuidv3.UuidRequestIdConfig); err != nil || e.Type != "" && !ok {
		c.note("request_id_extension: %s is not supported; request ids are UUIDs", e.Type)
	}
}

// routes compiles the route configuration, inline or by name.
func (c *chainCompiler) routes(m *hcmv3.HttpConnectionManager, h *program.HTTP, named map[string]string) {
	var rc *routev3.RouteConfiguration
	switch r := m.GetRouteSpecifier().(type) {
	case *hcmv3.HttpConnectionManager_RouteConfig:
		rc = r.RouteConfig
	case *hcmv3.HttpConnectionManager_Rds:
		name := r.Rds.GetRouteConfigName()
		res, ok := c.resource(TypeRoute, name)
		if !ok {
			c.fail("rds: route configuration %q has not arrived", name)
			return
		}
		var err error
		if rc, err = decodeRoutes(res); err != nil {
			c.fail("rds: route configuration %q: %w", name, err)
			return
		}
		c.extra = append(c.extra, rc)
	default:
		c.fail("http_connection_manager: neither route_config nor rds; scoped_routes is not supported")
		return
	}
	if c.opt.Routes == nil {
		c.fail("route_config: this program was built without routing")
		return
	}
	c.out.clusters = append(c.out.clusters, routedClusters(rc)...)
	cfg, notes, err := c.opt.Routes(rc, route.Options{
		PerRoute:             func(name string, config PerRoute) (any, error) { return c.perRoute(named, name, config) },
		SuppressEnvoyHeaders: h.SuppressEnvoyHeaders,
	})
	h.Routes, c.out.notes = cfg, append(c.out.notes, notes...)
	if err != nil {
		c.fail("route_config %q: %w", rc.GetName(), err)
	}
}

// typeError says what was found instead.
func typeError(e extension) error { return fmt.Errorf("%s is not supported", e.Type) }

// routedClusters names the clusters that routes forward to.
func routedClusters(rc *routev3.RouteConfiguration) []string {
	var names []string
	for _, v := range rc.GetVirtualHosts() {
		for _, r := range v.GetRoutes() {
			if n := r.GetRoute().GetCluster(); n != "" {
				names = append(names, n)
			}
			for _, w := range r.GetRoute().GetWeightedClusters().GetClusters() {
				names = append(names, w.GetName())
			}
		}
	}
	return names
}
