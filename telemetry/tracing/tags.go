package tracing

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	"google.golang.org/protobuf/types/known/structpb"

	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
)

// tag is a name and a value; typed is how an exporter that knows types shows it.
type tag struct {
	name, value string
	typed       tracingv3.CustomTag_ValueType
}

// makeTags are Envoy's standard tags, in the order in which Envoy sets them, and then the configured ones, which win over
// standard ones of the same name.
func (t *Tracer) makeTags(r *telemetry.Record) []tag {
	tags := make([]tag, 0, 20+len(t.tags))
	add := func(name, value string) { tags = append(tags, tag{name: name, value: value}) }
	header := func(h telemetry.Headers, name string) string {
		if h == nil {
			return ""
		}
		v, _ := h.Get(name)
		return v
	}
	ifSet := func(name, value string) {
		if value != "" {
			add(name, value)
		}
	}
	dash := func(v string) string {
		if v == "" {
			return "-"
		}
		return v
	}

	ifSet("node_id", t.provider.opts.NodeID)
	ifSet("zone", t.provider.opts.Zone)
	ifSet("guid:x-request-id", r.RequestID)
	add("http.url", t.url(r, header(r.RequestHeaders, "x-envoy-original-path")))
	add("http.method", r.Method)
	add("downstream_cluster", dash(header(r.RequestHeaders, "x-envoy-downstream-service-cluster")))
	add("user_agent", dash(header(r.RequestHeaders, "user-agent")))
	add("http.protocol", dash(string(r.Protocol)))
	if a := peerAddress(r); a.IsValid() {
		add("peer.address", a.Addr().String())
	}
	ifSet("guid:x-client-trace-id", header(r.RequestHeaders, "x-client-trace-id"))
	if r.GRPC {
		add("grpc.path", r.Path)
		add("grpc.authority", r.Authority)
		add("grpc.content_type", header(r.RequestHeaders, "content-type"))
		ifSet("grpc.timeout", header(r.RequestHeaders, "grpc-timeout"))
	}
	add("request_size", strconv.FormatUint(r.BytesReceived, 10))
	failed := r.ResponseCode == 0 || r.ResponseCode >= 500
	if r.GRPC {
		if code, ok := r.GRPCStatus.Code(); ok {
			add("grpc.status_code", strconv.Itoa(code))
			failed = failed || serverError(code)
		}
		ifSet("grpc.message", r.GRPCMessage)
	}
	add("component", "proxy")
	if r.UpstreamHost != "" {
		upstream := r.UpstreamHost
		if r.UpstreamAddress.IsValid() && !strings.Contains(upstream, "://") {
			upstream = r.UpstreamAddress.String()
		}
		add("upstream_address", upstream)
	}
	if r.UpstreamCluster != "" {
		add("upstream_cluster", r.UpstreamCluster)
		add("upstream_cluster.name", or(r.UpstreamClusterAlt, r.UpstreamCluster))
	}
	add("http.status_code", strconv.Itoa(r.ResponseCode))
	add("response_size", strconv.FormatUint(r.BytesSent, 10))
	add("response_flags", r.Flags.String())
	if failed {
		add("error", "true")
	}
	for i := range t.tags {
		if v, ok := t.tags[i].value(r); ok {
			tags = set(tags, tag{t.tags[i].name, v, t.tags[i].typed})
		}
	}
	return tags
}

func set(tags []tag, t tag) []tag {
	for i := range tags {
		if tags[i].name == t.name {
			tags[i] = t
			return tags
		}
	}
	return append(tags, t)
}

// url is what http.url shows: the path that the client asked for, cut to max_path_tag_length.
func (t *Tracer) url(r *telemetry.Record, original string) string {
	path := or(original, r.Path)
	if len(path) > t.maxPath {
		path = path[:t.maxPath]
	}
	return r.Scheme + "://" + r.Authority + path
}

func peerAddress(r *telemetry.Record) netip.AddrPort {
	if r.DownstreamDirectRemote.IsValid() {
		return r.DownstreamDirectRemote
	}
	return r.DownstreamRemote
}

// serverError tells the gRPC codes that Envoy tags as an error: those for which the server is to blame.
func serverError(code int) bool {
	switch code {
	case 2, 4, 8, 12, 13, 14, 15: // Unknown, DeadlineExceeded, ResourceExhausted, Unimplemented, Internal, Unavailable, DataLoss
		return true
	}
	return false
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// customTag is a compiled envoy.type.tracing.v3.CustomTag. value's ok is false when the tag is left out.
type customTag struct {
	name  string
	typed tracingv3.CustomTag_ValueType
	value func(*telemetry.Record) (v string, ok bool)
}

func compileTags(list []*tracingv3.CustomTag, o format.Options, report func(string, ...any)) ([]customTag, error) {
	var out []customTag
	for _, c := range list {
		value, err := compileTag(c, o)
		if err != nil {
			return nil, fmt.Errorf("custom_tags[%s]: %w", c.GetTag(), err)
		}
		if value == nil {
			report("custom_tags[%s]: this kind of tag is not honoured", c.GetTag())
			continue
		}
		out = append(out, customTag{c.GetTag(), c.GetValueType(), value})
	}
	return out, nil
}

func compileTag(c *tracingv3.CustomTag, o format.Options) (func(*telemetry.Record) (string, bool), error) {
	constant := func(v string) func(*telemetry.Record) (string, bool) {
		return func(*telemetry.Record) (string, bool) { return v, v != "" }
	}
	switch c.GetType().(type) {
	case *tracingv3.CustomTag_Literal_:
		return constant(c.GetLiteral().GetValue()), nil
	case *tracingv3.CustomTag_Environment_:
		e := c.GetEnvironment()
		if o.Env != nil {
			if v, ok := o.Env(e.GetName()); ok {
				return constant(v), nil
			}
		}
		return constant(e.GetDefaultValue()), nil
	case *tracingv3.CustomTag_RequestHeader:
		h := c.GetRequestHeader()
		f, err := format.Compile("%REQ("+h.GetName()+")%", o)
		if err != nil {
			return nil, err
		}
		return orDefault(f.Value, h.GetDefaultValue()), nil
	case *tracingv3.CustomTag_Value:
		f, err := format.Compile(c.GetValue(), o)
		if err != nil {
			return nil, err
		}
		return orDefault(f.Value, ""), nil
	case *tracingv3.CustomTag_Metadata_:
		return metadataTag(c.GetMetadata())
	}
	return nil, nil
}

// orDefault leaves out an empty value, or puts the default in its place.
func orDefault(value func(*telemetry.Record) (string, bool), fallback string) func(*telemetry.Record) (string, bool) {
	return func(r *telemetry.Record) (string, bool) {
		if v, ok := value(r); ok && v != "" {
			return v, true
		}
		return fallback, fallback != ""
	}
}

func metadataTag(c *tracingv3.CustomTag_Metadata) (func(*telemetry.Record) (string, bool), error) {
	source := telemetry.MetadataRequest
	switch c.GetKind().GetKind().(type) {
	case nil, *metadatav3.MetadataKind_Request_:
	case *metadatav3.MetadataKind_Route_:
		source = telemetry.MetadataRoute
	case *metadatav3.MetadataKind_Cluster_:
		source = telemetry.MetadataCluster
	case *metadatav3.MetadataKind_Host_:
		source = telemetry.MetadataUpstreamHost
	default:
		return nil, nil
	}
	namespace := c.GetMetadataKey().GetKey()
	var path []string
	for _, s := range c.GetMetadataKey().GetPath() {
		path = append(path, s.GetKey())
	}
	return orDefault(func(r *telemetry.Record) (string, bool) {
		if r.Metadata == nil {
			return "", false
		}
		return valueText(r.Metadata.Lookup(source, namespace, path))
	}, c.GetDefaultValue()), nil
}

// valueText is a metadata value as a tag: text as it is, anything else as JSON.
func valueText(v *structpb.Value) (string, bool) {
	switch k := v.GetKind().(type) {
	case nil, *structpb.Value_NullValue:
		return "", false
	case *structpb.Value_StringValue:
		return k.StringValue, true
	case *structpb.Value_BoolValue:
		return strconv.FormatBool(k.BoolValue), true
	}
	b, err := v.MarshalJSON()
	return string(b), err == nil
}
