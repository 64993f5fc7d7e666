package accesslog

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	otelv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	otlppb "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
)

// otlpSink logs to an OpenTelemetry collector.
type otlpSink struct {
	to         *queued
	body       value // nil: there is none
	attributes []attribute
	state      []string // filter state objects that become attributes
}

type attribute struct {
	key   string
	value value
}

// value computes an attribute's value.
type value func(*telemetry.Record) *commonpb.AnyValue

func (o *otlpSink) log(r *telemetry.Record) {
	rec := &otlppb.LogRecord{TimeUnixNano: uint64(r.Start.UnixNano())}
	if o.body != nil {
		rec.Body = o.body(r)
	}
	for i := range o.attributes {
		rec.Attributes = append(rec.Attributes, &commonpb.KeyValue{Key: o.attributes[i].key, Value: o.attributes[i].value(r)})
	}
	for _, key := range o.state {
		if m := stateObject(r, key); m != nil {
			if text, err := protojson.Marshal(m); err == nil {
				rec.Attributes = append(rec.Attributes, &commonpb.KeyValue{Key: key, Value: textValue(string(text))})
			}
		}
	}
	rec.TraceId, rec.SpanId = traceID(r.TraceID), traceID(r.SpanID)
	o.to.put(rec)
}

// traceID is hex as bytes; nil if there is none. A trace of 64 bits has zeros before it.
func traceID(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) == 0 {
		return nil
	}
	return b
}

func textValue(s string) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: utf8(s)}}
}

// otlp compiles an open_telemetry logger.
func (s *Services) otlp(c *otelv3.OpenTelemetryAccessLogConfig, o format.Options, report func(string, ...any)) (sink, error) {
	service, common := c.GetGrpcService(), c.GetCommonConfig() //nolint:staticcheck // common_config is deprecated, and what istiod sends
	if service == nil {
		service = common.GetGrpcService()
	}
	if c.GetHttpService() != nil {
		report("http_service: logs over HTTP are not sent; use grpc_service")
		return discard{}, nil
	}
	for _, d := range c.GetResourceDetectors() {
		report("resource_detectors %s has no effect", d.GetName())
	}
	if len(c.GetCustomTags()) > 0 || len(common.GetCustomTags()) > 0 {
		report("custom_tags are not sent")
	}
	out := &otlpSink{state: append(append([]string(nil), common.GetFilterStateObjectsToLog()...), c.GetFilterStateObjectsToLog()...)}
	var err error
	if c.GetBody() != nil {
		if out.body, err = compileAny(c.GetBody(), o); err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
	}
	for _, kv := range c.GetAttributes().GetValues() {
		v, err := compileAny(kv.GetValue(), o)
		if err != nil {
			return nil, fmt.Errorf("attributes %q: %w", kv.GetKey(), err)
		}
		out.attributes = append(out.attributes, attribute{kv.GetKey(), v})
	}
	conn, err := s.connector(service)
	if err != nil {
		return nil, fmt.Errorf("grpc_service: %w", err)
	}
	// What a collector is told does not depend on the formats, so loggers that differ only in these share a connection.
	shared := proto.Clone(c).(*otelv3.OpenTelemetryAccessLogConfig)
	shared.Body, shared.Attributes, shared.FilterStateObjectsToLog, shared.Formatters = nil, nil, nil, nil
	out.to, err = s.get(shared, func() (*queued, error) {
		flush, size := c.GetBufferFlushInterval(), c.GetBufferSizeBytes()
		if flush == nil {
			flush = common.GetBufferFlushInterval()
		}
		if size == nil {
			size = common.GetBufferSizeBytes()
		}
		return s.newService(conn.authority, &otlpOutput{connector: conn, resource: s.resource(c)}, conn.timeout, flush, size), nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// resource says who logs: log_name, zone_name, cluster_name and node_name, unless these are switched off, and what is configured.
func (s *Services) resource(c *otelv3.OpenTelemetryAccessLogConfig) *resourcepb.Resource {
	r := &resourcepb.Resource{}
	if !c.GetDisableBuiltinLabels() {
		name := c.GetLogName()
		if name == "" {
			name = c.GetCommonConfig().GetLogName() //nolint:staticcheck // deprecated, and what istiod sends
		}
		n := s.opts.Node
		for _, l := range [][2]string{{"log_name", name}, {"zone_name", n.GetLocality().GetZone()}, {"cluster_name", n.GetCluster()}, {"node_name", n.GetId()}} {
			r.Attributes = append(r.Attributes, &commonpb.KeyValue{Key: l[0], Value: textValue(l[1])})
		}
	}
	r.Attributes = append(r.Attributes, c.GetResourceAttributes().GetValues()...)
	return r
}

// compileAny compiles the formats in a value. Text is formatted, lists and maps are gone into, and anything else stays, as in Envoy.
func compileAny(v *commonpb.AnyValue, o format.Options) (value, error) {
	switch v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		f, err := format.Compile(v.GetStringValue(), o)
		if err != nil {
			return nil, err
		}
		return func(r *telemetry.Record) *commonpb.AnyValue { return textValue(string(f.Append(nil, r))) }, nil
	case *commonpb.AnyValue_KvlistValue:
		var list []attribute
		for _, kv := range v.GetKvlistValue().GetValues() {
			inner, err := compileAny(kv.GetValue(), o)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", kv.GetKey(), err)
			}
			list = append(list, attribute{kv.GetKey(), inner})
		}
		return func(r *telemetry.Record) *commonpb.AnyValue {
			out := &commonpb.KeyValueList{}
			for i := range list {
				out.Values = append(out.Values, &commonpb.KeyValue{Key: list[i].key, Value: list[i].value(r)})
			}
			return &commonpb.AnyValue{Value: &commonpb.AnyValue_KvlistValue{KvlistValue: out}}
		}, nil
	case *commonpb.AnyValue_ArrayValue:
		var list []value
		for i, e := range v.GetArrayValue().GetValues() {
			inner, err := compileAny(e, o)
			if err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
			list = append(list, inner)
		}
		return func(r *telemetry.Record) *commonpb.AnyValue {
			out := &commonpb.ArrayValue{}
			for _, v := range list {
				out.Values = append(out.Values, v(r))
			}
			return &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: out}}
		}, nil
	case nil:
		return nil, errors.New("the value is empty")
	}
	return func(*telemetry.Record) *commonpb.AnyValue { return v }, nil
}

// otlpOutput is a connection to an OpenTelemetry collector.
type otlpOutput struct {
	*connector
	resource *resourcepb.Resource
	conn     *grpc.ClientConn
}

func (o *otlpOutput) send(ctx context.Context, batch []proto.Message) error {
	if o.conn == nil {
		conn, err := o.connect()
		if err != nil {
			return err
		}
		o.conn = conn
	}
	scope := &otlppb.ScopeLogs{}
	for _, m := range batch {
		scope.LogRecords = append(scope.LogRecords, m.(*otlppb.LogRecord))
	}
	answer, err := logspb.NewLogsServiceClient(o.conn).Export(metadata.NewOutgoingContext(ctx, o.headers), &logspb.ExportLogsServiceRequest{
		ResourceLogs: []*otlppb.ResourceLogs{{Resource: o.resource, ScopeLogs: []*otlppb.ScopeLogs{scope}}},
	}, grpc.WaitForReady(true))
	if n := answer.GetPartialSuccess().GetRejectedLogRecords(); err == nil && n > 0 {
		return fmt.Errorf("the collector rejected %d of %d records: %s", n, len(batch), answer.GetPartialSuccess().GetErrorMessage())
	}
	return err
}

func (o *otlpOutput) close() {
	if o.conn != nil {
		_ = o.conn.Close() // each Export was answered
		o.conn = nil
	}
}

// discard logs nothing.
type discard struct{}

func (discard) log(*telemetry.Record) {}
