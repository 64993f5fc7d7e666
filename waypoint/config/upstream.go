package config

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/gowaypoint/gowaypoint/waypoint/program"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

// httpOptionsKey is the key of Cluster.typed_extension_protocol_options that HTTP uses.
const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// defaultUpstreamIdle is Envoy's common_http_protocol_options.idle_timeout.
const defaultUpstreamIdle = time.Hour

// upstreamHTTP is how a cluster's connections speak HTTP.
type upstreamHTTP struct {
	protocol          program.Protocol
	http2             program.HTTP2
	idle, maxDuration time.Duration
	maxRequests       uint32
	autoSNI, autoSAN  bool
}

// upstreamHTTP reads HttpProtocolOptions, and the fields of Cluster that it replaced.
func (d *decoder) upstreamHTTP(c *clusterv3.Cluster) (upstreamHTTP, error) {
	u := upstreamHTTP{idle: defaultUpstreamIdle}
	for key := range c.GetTypedExtensionProtocolOptions() {
		if key != httpOptionsKey {
			return u, fmt.Errorf("typed_extension_protocol_options: %q is not supported", key)
		}
	}
	packed := c.GetTypedExtensionProtocolOptions()[httpOptionsKey]
	if packed == nil {
		//nolint:staticcheck // the deprecated fields are what Envoy falls back to
		h2, common, maxReq := c.GetHttp2ProtocolOptions(), c.GetCommonHttpProtocolOptions(), c.GetMaxRequestsPerConnection()
		if h2 != nil {
			u.protocol, u.http2 = program.UpstreamHTTP2, http2(h2)
		}
		u.common(common)
		if maxReq != nil {
			u.maxRequests = maxReq.GetValue()
		}
		return u, nil
	}
	o, err := decodeAs(d, packed, &upstreamv3.HttpProtocolOptions{})
	if err != nil {
		return u, fmt.Errorf("typed_extension_protocol_options: %w", err)
	}
	u.common(o.GetCommonHttpProtocolOptions())
	u.autoSNI = o.GetUpstreamHttpProtocolOptions().GetAutoSni()
	u.autoSAN = o.GetUpstreamHttpProtocolOptions().GetAutoSanValidation()
	switch p := o.GetUpstreamProtocolOptions().(type) {
	case *upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_:
		switch e := p.ExplicitHttpConfig.GetProtocolConfig().(type) {
		case *upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions:
		case *upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions:
			u.protocol, u.http2 = program.UpstreamHTTP2, http2(e.Http2ProtocolOptions)
		default:
			return u, errors.New("explicit_http_config: only HTTP/1.1 and HTTP/2 are spoken upstream")
		}
	case *upstreamv3.HttpProtocolOptions_UseDownstreamProtocolConfig:
		u.protocol, u.http2 = program.UseDownstream, http2(p.UseDownstreamProtocolConfig.GetHttp2ProtocolOptions())
	default:
		return u, errors.New("HttpProtocolOptions: one of explicit_http_config and use_downstream_protocol_config is needed; auto_config is not supported")
	}
	return u, nil
}

func (u *upstreamHTTP) common(o *corev3.HttpProtocolOptions) {
	u.idle = duration(o.GetIdleTimeout(), u.idle)
	u.maxDuration = duration(o.GetMaxConnectionDuration(), 0)
	u.maxRequests = o.GetMaxRequestsPerConnection().GetValue()
}

func http2(o *corev3.Http2ProtocolOptions) program.HTTP2 {
	return program.HTTP2{
		MaxConcurrentStreams:    o.GetMaxConcurrentStreams().GetValue(),
		InitialStreamWindow:     o.GetInitialStreamWindowSize().GetValue(),
		InitialConnectionWindow: o.GetInitialConnectionWindowSize().GetValue(),
		AllowConnect:            o.GetAllowConnect(),
		KeepaliveInterval:       duration(o.GetConnectionKeepalive().GetInterval(), 0),
		KeepaliveTimeout:        duration(o.GetConnectionKeepalive().GetTimeout(), 0),
	}
}

// duration returns d, or def if it is not set.
func duration(d *durationpb.Duration, def time.Duration) time.Duration {
	if d == nil {
		return def
	}
	return d.AsDuration()
}
