package accesslog

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/fluentd/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
)

func parse(t *testing.T, src string) *accesslogv3.AccessLog {
	t.Helper()
	l := &accesslogv3.AccessLog{}
	if err := protojson.Unmarshal([]byte(src), l); err != nil {
		t.Fatal(err)
	}
	return l
}

func fileLog(path, fields string) string {
	return `{"name":"envoy.access_loggers.file",` + fields + `"typed_config":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
	"path":"` + path + `","log_format":{"text_format_source":{"inline_string":"%RESPONSE_CODE% %REQ(:PATH)% %RESPONSE_FLAGS%\n"}}}}`
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *safeBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

// logged compiles one logger to stdout with the given filter and tells which of the paths of the records were written.
func logged(t *testing.T, filter string, records ...telemetry.Record) (paths string, unhonoured []string) {
	t.Helper()
	out := &safeBuffer{}
	files := NewFiles(FileOptions{Stdout: out})
	if filter != "" {
		filter = `"filter":` + filter + `,`
	}
	logs, unhonoured, err := Compile([]*accesslogv3.AccessLog{parse(t, fileLog("/dev/stdout", filter))}, Outputs{Files: files}, format.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		logs.Log(&records[i])
	}
	files.Close()
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if f := strings.Fields(line); len(f) > 1 {
			got = append(got, f[1])
		}
	}
	return strings.Join(got, " "), unhonoured
}

type headers map[string]string

func (h headers) Get(name string) (string, bool) { v, ok := h[name]; return v, ok }

// Each filter, against the same five records.
func TestFilters(t *testing.T) {
	records := []telemetry.Record{
		{Path: "/ok", ResponseCode: 200, Duration: telemetry.Took(time.Second), RequestHeaders: headers{"x-team": "blue"}},
		{Path: "/nr", ResponseCode: 404, Flags: telemetry.FlagsOf(telemetry.FlagNoRouteFound)},
		{Path: "/uf", ResponseCode: 503, Flags: telemetry.FlagsOf(telemetry.FlagUpstreamConnectionFailure, telemetry.FlagUpstreamRetryLimitExceeded)},
		{Path: "/hc", ResponseCode: 200, HealthCheck: true, RequestHeaders: headers{"x-team": "Blue-2"}},
		{Path: "/grpc", ResponseCode: 200, GRPC: true, GRPCStatus: telemetry.GRPC(7)},
	}
	status := func(op, v string) string {
		return `{"status_code_filter":{"comparison":{"op":"` + op + `","value":{"default_value":` + v + `,"runtime_key":"x"}}}}`
	}
	expression := func(e string) string {
		return `{"extension_filter":{"name":"cel","typed_config":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter","expression":` + strconv.Quote(e) + `}}}`
	}
	for _, c := range []struct{ name, filter, want, report string }{
		{"none", "", "/ok /nr /uf /hc /grpc", ""},
		{"as on connect_terminate", status("GE", "400"), "/nr /uf", ""},
		{"EQ", status("EQ", "404"), "/nr", ""},
		{"LE", status("LE", "404"), "/ok /nr /hc /grpc", ""},
		{"NE", status("NE", "200"), "/nr /uf", ""},
		{"as on connect_originate", `{"response_flag_filter":{"flags":["UF"]}}`, "/uf", ""},
		{"as on listeners", `{"response_flag_filter":{"flags":["NR"]}}`, "/nr", ""},
		{"any flag", `{"response_flag_filter":{}}`, "/nr /uf", ""},
		{"and", `{"and_filter":{"filters":[` + status("GE", "400") + `,{"response_flag_filter":{"flags":["NR"]}}]}}`, "/nr", ""},
		{"or", `{"or_filter":{"filters":[` + status("GE", "500") + `,{"response_flag_filter":{"flags":["NR"]}}]}}`, "/nr /uf", ""},
		{"not_health_check", `{"not_health_check_filter":{}}`, "/ok /nr /uf /grpc", ""},
		{"duration", `{"duration_filter":{"comparison":{"op":"GE","value":{"default_value":1000,"runtime_key":"x"}}}}`, "/ok", ""},
		{"grpc status", `{"grpc_status_filter":{"statuses":["PERMISSION_DENIED"]}}`, "/grpc", ""},
		{"grpc status, excluded", `{"grpc_status_filter":{"statuses":["PERMISSION_DENIED","UNAVAILABLE"],"exclude":true}}`, "/ok /nr /hc", ""},
		{"header present", `{"header_filter":{"header":{"name":"x-team","present_match":true}}}`, "/ok /hc", ""},
		{"header absent", `{"header_filter":{"header":{"name":"x-team","present_match":false}}}`, "/nr /uf /grpc", ""},
		{"header prefix", `{"header_filter":{"header":{"name":"X-Team","string_match":{"prefix":"blue","ignore_case":true}}}}`, "/ok /hc", ""},
		{"header regex is anchored", `{"header_filter":{"header":{"name":"x-team","string_match":{"safe_regex":{"regex":"bl.e"}}}}}`, "/ok", ""},
		{"header, inverted", `{"header_filter":{"header":{"name":"x-team","invert_match":true,"string_match":{"exact":"blue"}}}}`, "/nr /uf /hc /grpc", ""},
		{"pseudo-header", `{"header_filter":{"header":{"name":":path","string_match":{"exact":"/ok"}}}}`, "/ok", ""},
		{"as of Telemetry filter.expression", expression("response.code >= 400"), "/nr /uf", ""},
		{"CEL by header", expression("request.headers['x-team'].startsWith('blue')"), "/ok", ""},
		{"CEL and status", `{"and_filter":{"filters":[` + status("GE", "400") + `,` + expression("response.code != 404") + `]}}`, "/uf", ""},
		{"CEL that is no bool", expression("request.path"), "", ""},
		{"CEL by an attribute that is never there", expression("request.pth == '/ok' || response.code == 404"), "/nr", "expression: the attribute request.pth"},
		{"CEL with a function that nobody knows", expression("request.path.lower() == '/ok'"), "/ok /nr /uf /hc /grpc", `the function "lower" is not known; everything is logged`},
		{"CEL that does not parse", expression("request.path =="), "/ok /nr /uf /hc /grpc", "expression: CEL expression"},
		{"another extension", `{"extension_filter":{"name":"x"}}`, "/ok /nr /uf /hc /grpc", "extension_filter x"},
		{"another extension and status", `{"and_filter":{"filters":[` + status("GE", "400") + `,{"extension_filter":{"name":"x"}}]}}`, "/nr /uf", "extension_filter x"},
		{"traceable", `{"traceable_filter":{}}`, "/ok /nr /uf /hc /grpc", "TraceableFilter"},
		{"header range", `{"header_filter":{"header":{"name":"x-team","range_match":{"start":1,"end":2}}}}`, "/ok /nr /uf /hc /grpc", "header_filter"},
	} {
		got, unhonoured := logged(t, c.filter, records...)
		if got != c.want {
			t.Errorf("%s: logged %q, want %q", c.name, got, c.want)
		}
		if all := strings.Join(unhonoured, "\n"); c.report == "" && all != "" || !strings.Contains(all, c.report) {
			t.Errorf("%s: reported %q, want %q in it", c.name, all, c.report)
		}
	}
}

// What cannot be compiled is an error that names place and field; what cannot be honoured is reported.
func TestRefusedAndReported(t *testing.T) {
	files := NewFiles(FileOptions{Stdout: io.Discard})
	defer files.Close()
	for _, c := range []struct{ log, want string }{
		{strings.Replace(fileLog("/dev/stdout", ""), "RESPONSE_FLAGS", "NO_SUCH", 1), "access_log[0] envoy.access_loggers.file: log_format: operator %NO_SUCH%"},
		{fileLog("/no/such/dir/log", ""), "access_log[0] envoy.access_loggers.file: path: "},
		{fileLog("/dev/stdout", `"filter":{"response_flag_filter":{"flags":["XX"]}},`), "response_flag_filter.flags"},
		{fileLog("/dev/stdout", `"filter":{"header_filter":{"header":{"name":"a","string_match":{"safe_regex":{"regex":"("}}}}},`), `header_filter "a"`},
	} {
		if _, _, err := Compile([]*accesslogv3.AccessLog{parse(t, c.log)}, Outputs{Files: files}, format.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error is %v, want %q in it", err, c.want)
		}
	}
	fluentd := `{"name":"envoy.access_loggers.fluentd","typed_config":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.fluentd.v3.FluentdAccessLogConfig"}}`
	cel := strings.Replace(fileLog("/dev/stdout", ""), "RESPONSE_FLAGS", "CEL(request.pth)", 1)
	logs, unhonoured, err := Compile([]*accesslogv3.AccessLog{parse(t, fluentd), parse(t, cel)}, Outputs{Files: files}, format.Options{})
	if err != nil || len(unhonoured) != 2 || !strings.Contains(unhonoured[0], "FluentdAccessLogConfig") || !strings.Contains(unhonoured[1], "access_log[1]") || !strings.Contains(unhonoured[1], "%CEL%: the attribute request.pth") {
		t.Errorf("reported %q, %v", unhonoured, err)
	}
	if logs.Empty() || !(*Logs)(nil).Empty() {
		t.Error("Empty is wrong")
	}
	(*Logs)(nil).Log(&telemetry.Record{}) // does nothing
}

// JSON and the stream loggers.
func TestJSONAndStreams(t *testing.T) {
	out, errs := &safeBuffer{}, &safeBuffer{}
	files := NewFiles(FileOptions{Stdout: out, Stderr: errs})
	logs, unhonoured, err := Compile([]*accesslogv3.AccessLog{
		parse(t, `{"name":"a","typed_config":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog","log_format":{"json_format":{"code":"%RESPONSE_CODE%","path":"%REQ(:PATH)%"}}}}`),
		parse(t, `{"name":"b","typed_config":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog"}}`),
	}, Outputs{Files: files}, format.Options{})
	if err != nil || len(unhonoured) > 0 {
		t.Fatal(err, unhonoured)
	}
	logs.Log(&telemetry.Record{ResponseCode: 204, Method: "PUT"})
	files.Close()
	if got, want := out.String(), "{\"code\":204,\"path\":null}\n"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
	if got := errs.String(); !strings.Contains(got, `"PUT - -" 204 - 0 0 - - "-"`) {
		t.Errorf("Envoy's default format gives %q", got)
	}
}

// Two configurations share a file; it survives a rotation; lines appear within the flush interval.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	files := NewFiles(FileOptions{FlushInterval: 10 * time.Millisecond})
	var all []*Logs
	for range 2 {
		logs, _, err := Compile([]*accesslogv3.AccessLog{parse(t, fileLog(path, ""))}, Outputs{Files: files}, format.Options{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, logs)
	}
	all[0].Log(&telemetry.Record{ResponseCode: 200, Path: "/1"})
	waitFor(t, func() bool { b, _ := os.ReadFile(path); return string(b) == "200 /1 -\n" })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := files.Reopen(); err != nil {
		t.Fatal(err)
	}
	all[1].Log(&telemetry.Record{ResponseCode: 200, Path: "/2"})
	files.Close() // flushes
	if b, _ := os.ReadFile(path); string(b) != "200 /2 -\n" {
		t.Errorf("after the rotation the file has %q", b)
	}
	all[0].Log(&telemetry.Record{})
	if files.Dropped() != 1 {
		t.Errorf("a line after Close: %d dropped, want 1", files.Dropped())
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("timed out")
		}
	}
}

// A reader that has stalled costs lines, counted, and no time: the pipe is full and Log still returns.
func TestStalledReaderDoesNotBlock(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	files := NewFiles(FileOptions{Stdout: w, Buffer: 128 << 10, FlushInterval: 5 * time.Millisecond})
	logs, _, err := Compile([]*accesslogv3.AccessLog{parse(t, fileLog("/dev/stdout", ""))}, Outputs{Files: files}, format.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rec := telemetry.Record{ResponseCode: 200, Path: "/" + strings.Repeat("x", 1000)}
	const lines = 2000
	begin := time.Now()
	for range lines {
		logs.Log(&rec)
	}
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("%d lines took %v", lines, d)
	}
	if files.Dropped() == 0 {
		t.Error("nothing is counted as dropped")
	}
	read := make(chan int)
	go func() {
		b, _ := io.ReadAll(r)
		read <- bytes.Count(b, []byte("\n"))
	}()
	files.Close()
	_ = w.Close()
	if got := <-read; uint64(got)+files.Dropped() != lines {
		t.Errorf("%d lines written and %d dropped of %d", got, files.Dropped(), lines)
	}
}

func TestLogDoesNotAllocate(t *testing.T) {
	files := NewFiles(FileOptions{Stdout: io.Discard, FlushInterval: time.Hour})
	defer files.Close()
	logs, _, err := Compile([]*accesslogv3.AccessLog{parse(t, fileLog("/dev/stdout", ""))}, Outputs{Files: files}, format.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rec := telemetry.Record{ResponseCode: 200, Path: "/x"}
	for range 1000 {
		logs.Log(&rec) // the buffer grows to its size
	}
	if n := testing.AllocsPerRun(100, func() { logs.Log(&rec) }); n > 0 {
		t.Errorf("Log allocates %v times", n)
	}
}
