package accesslog

import (
	"fmt"
	"sync"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	grpcv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	otelv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/cel"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
)

// defaultFormat is Envoy's, for a file logger without a format. istiod always sends one.
const defaultFormat = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" " +
	"%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% " +
	"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" " +
	"\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n"

// Logs is the compiled list of loggers of one place. It is immutable and may be used by any number of goroutines; nil logs
// nothing.
type Logs struct{ entries []entry }

type entry struct {
	filter filter // nil: everything
	to     sink
}

// sink takes records. It keeps nothing of them and does not block.
type sink interface {
	log(r *telemetry.Record)
}

// Outputs is where a process logs to.
type Outputs struct {
	Files *Files
	// Services is nil where there are none: a logger to one is then an error.
	Services *Services
}

// Compile translates a list of access_log entries. unhonoured names the fields whose effect is missing, each beginning with
// its place in the list. The error is for what Envoy too would refuse: a malformed format, an operator that nobody knows, a
// file that cannot be opened.
func Compile(list []*accesslogv3.AccessLog, out Outputs, o format.Options) (logs *Logs, unhonoured []string, err error) {
	logs = &Logs{}
	if o.CEL == nil {
		o.CEL = cel.NewEnv(nil)
	}
	for i, l := range list {
		where := fmt.Sprintf("access_log[%d] %s", i, l.GetName())
		report := func(f string, args ...any) { unhonoured = append(unhonoured, where+": "+fmt.Sprintf(f, args...)) }
		o.Report = func(note string) { report("log_format: %s", note) }

		e := entry{}
		if e.to, err = compileSink(l, out, o, report); err != nil {
			return nil, unhonoured, fmt.Errorf("%s: %w", where, err)
		}
		if e.to == nil {
			report("loggers of type %s are not supported; nothing is logged there", l.GetTypedConfig().GetTypeUrl())
			continue
		}
		if e.filter, err = compileFilter(l.GetFilter(), filterOptions{o.CEL, report}); err != nil {
			return nil, unhonoured, fmt.Errorf("%s: filter: %w", where, err)
		}
		logs.entries = append(logs.entries, e)
	}
	return logs, unhonoured, nil
}

// compileSink reads the logger itself; nil for a type that is not supported.
func compileSink(l *accesslogv3.AccessLog, out Outputs, o format.Options, report func(string, ...any)) (sink, error) {
	config := l.GetTypedConfig()
	read := func(m proto.Message) bool { return config.MessageIs(m) }
	file, stdout, stderr := &filev3.FileAccessLog{}, &streamv3.StdoutAccessLog{}, &streamv3.StderrAccessLog{}
	http, tcp, otel := &grpcv3.HttpGrpcAccessLogConfig{}, &grpcv3.TcpGrpcAccessLogConfig{}, &otelv3.OpenTelemetryAccessLogConfig{}
	switch {
	case read(file):
		return unpacked(config, file, func() (sink, error) {
			line, err := fileFormat(file, o)
			return fileSink(out.Files, file.GetPath(), line, err)
		})
	case read(stdout):
		return unpacked(config, stdout, func() (sink, error) {
			line, err := logFormat(stdout.GetLogFormat(), o)
			return fileSink(out.Files, "/dev/stdout", line, err)
		})
	case read(stderr):
		return unpacked(config, stderr, func() (sink, error) {
			line, err := logFormat(stderr.GetLogFormat(), o)
			return fileSink(out.Files, "/dev/stderr", line, err)
		})
	case read(http):
		return unpacked(config, http, func() (sink, error) { return out.Services.als(http, false, report) })
	case read(tcp):
		return unpacked(config, tcp, func() (sink, error) {
			return out.Services.als(&grpcv3.HttpGrpcAccessLogConfig{CommonConfig: tcp.GetCommonConfig()}, true, report)
		})
	case read(otel):
		return unpacked(config, otel, func() (sink, error) { return out.Services.otlp(otel, o, report) })
	}
	return nil, nil
}

func unpacked(config *anypb.Any, m proto.Message, compile func() (sink, error)) (sink, error) {
	if err := config.UnmarshalTo(m); err != nil {
		return nil, err
	}
	return compile()
}

// lines writes to a file.
type lines struct {
	line format.Line
	file *File
}

func fileSink(files *Files, path string, line format.Line, err error) (sink, error) {
	if err != nil {
		return nil, err
	}
	file, err := files.Open(path)
	if err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	return &lines{line, file}, nil
}

func (l *lines) log(r *telemetry.Record) {
	b := buffers.Get().(*[]byte)
	*b = l.line.Append((*b)[:0], r)
	l.file.write(*b)
	if cap(*b) <= 64<<10 { // do not keep the odd giant
		buffers.Put(b)
	}
}

// fileFormat reads log_format or one of its three predecessors. The oldest JSON form (json_format) prints numbers as numbers
// like the others; Envoy turns all its values into text.
func fileFormat(c *filev3.FileAccessLog, o format.Options) (format.Line, error) {
	var json *structpb.Struct
	switch c.GetAccessLogFormat().(type) {
	case *filev3.FileAccessLog_Format:
		return logFormat(&corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormat{TextFormat: c.GetFormat()}}, o) //nolint:staticcheck // deprecated, still legal
	case *filev3.FileAccessLog_JsonFormat:
		json = c.GetJsonFormat() //nolint:staticcheck // deprecated, still legal
	case *filev3.FileAccessLog_TypedJsonFormat:
		json = c.GetTypedJsonFormat() //nolint:staticcheck // deprecated, still legal
	default:
		return logFormat(c.GetLogFormat(), o)
	}
	return logFormat(&corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: json}}, o)
}

func logFormat(f *corev3.SubstitutionFormatString, o format.Options) (format.Line, error) {
	if f.GetFormat() == nil {
		o.OmitEmpty = f.GetOmitEmptyValues()
		return format.Compile(defaultFormat, o)
	}
	line, err := format.FromProto(f, o)
	if err != nil {
		return nil, fmt.Errorf("log_format: %w", err)
	}
	return line, nil
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// Log writes the record to each logger whose filter lets it pass. It does not block.
func (l *Logs) Log(r *telemetry.Record) {
	if l == nil {
		return
	}
	for i := range l.entries {
		e := &l.entries[i]
		if e.filter != nil && !e.filter(r) {
			continue
		}
		e.to.log(r)
	}
}

// Empty tells whether nothing can be logged, so that a caller may spare itself the work of filling a record.
func (l *Logs) Empty() bool { return l == nil || len(l.entries) == 0 }
