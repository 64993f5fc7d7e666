package format

import (
	"bufio"
	"encoding/json"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

type headers map[string]string

func (h headers) Get(name string) (string, bool) { v, ok := h[name]; return v, ok }

type state map[string]string

func (s state) Plain(key string) (string, bool)       { v, ok := s[key]; return v, ok }
func (s state) Field(key, name string) (string, bool) { v, ok := s[key+"."+name]; return v, ok }

type metadata struct{}

func (metadata) Lookup(source telemetry.MetadataSource, namespace string, path []string) *structpb.Value {
	all := map[telemetry.MetadataSource]map[string]any{
		telemetry.MetadataRequest: {"envoy.filters.http.jwt_authn": map[string]any{"payload": map[string]any{"sub": "alice", "exp": 17}}},
		telemetry.MetadataRoute:   {"istio": map[string]any{"config": "reviews-route"}},
	}
	var v any = all[source]
	for _, k := range append([]string{namespace}, path...) {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[k]
	}
	out, err := structpb.NewValue(v)
	if err != nil || v == nil {
		return nil
	}
	return out
}

var records = map[string]*telemetry.Record{
	"empty": {},
	"get": {
		Start:    time.Date(2026, 11, 23, 9, 5, 7, 42123456, time.UTC),
		Duration: telemetry.Took(12900 * time.Microsecond), UpstreamServiceTime: telemetry.Took(11 * time.Millisecond),
		Protocol: telemetry.HTTP11, Method: "GET", Path: "/reviews/1?full=1", Authority: "reviews:8000", Scheme: "http",
		RequestHeaders:   headers{"user-agent": "curl/8.5.0", "x-empty": ""},
		ResponseHeaders:  headers{"content-type": "application/json"},
		ResponseTrailers: headers{"x-sum": "abc"},
		RequestID:        "6d4a1f5e-0b1c-9f3a-8f7e-1c2b3a4d5e6f",
		ResponseCode:     200, ResponseCodeDetails: "via_upstream", BytesSent: 357,
		DownstreamRemote: netip.MustParseAddrPort("10.244.0.5:41522"), DownstreamLocal: netip.MustParseAddrPort("10.96.0.10:8000"),
		UpstreamHost: "envoy://connect_originate/10.244.1.7:8000", UpstreamAddress: netip.MustParseAddrPort("10.244.1.7:8000"),
		UpstreamLocalText: "envoy://internal_client_address/",
		UpstreamCluster:   "inbound-vip|8000|http|reviews.default.svc.cluster.local", RouteName: "default",
		PeerPrincipal: "spiffe://cluster.local/ns/default/sa/curl",
		Source:        &telemetry.Peer{Workload: "curl"},
		Destination:   &telemetry.Peer{Workload: "reviews-v1", Namespace: "default", CanonicalService: "reviews"},
		FilterState:   state{"my.key": "mine", "envoy.filters.listener.original_dst.local_ip": "10.96.0.10:8000"}, Metadata: metadata{},
		EarlierHosts: "10.244.1.8:8000,",
		Timing: telemetry.Timing{
			DownstreamLastRx: telemetry.At(0), UpstreamFirstTx: telemetry.At(900 * time.Microsecond), UpstreamLastTx: telemetry.At(2 * time.Millisecond),
			UpstreamFirstRx: telemetry.At(10500 * time.Microsecond), DownstreamLastTx: telemetry.At(12900 * time.Microsecond),
		},
	},
	"failed": {
		ResponseCode: 503, Flags: telemetry.FlagsOf(telemetry.FlagUpstreamConnectionFailure, telemetry.FlagUpstreamRetryLimitExceeded),
		ResponseCodeDetails:            "upstream_reset_before_response_started{connection refused}",
		UpstreamTransportFailureReason: "delayed connect error: 111",
		ConnectionTerminationDetails:   "rbac_access_denied_matched_policy[none]",
	},
	"grpc":  {GRPC: true, GRPCStatus: telemetry.GRPC(7), ResponseCode: 200},
	"nasty": {Path: "/\"\\\n\x01\x7f\xff é", ResponseCode: 200, Method: "GET"},
}

// Local times in the fixtures are UTC.
func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

var options = Options{
	Hostname: "waypoint-7d",
	Env: func(name string) (string, bool) {
		if name == "POD" {
			return "waypoint-7d-abc", true
		}
		return "", false
	},
}

// Every case of testdata/text.txt.
func TestTextFixtures(t *testing.T) {
	f, err := os.Open("testdata/text.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var record, format string
	line, cases := 0, 0
	for in := bufio.NewScanner(f); in.Scan(); {
		line++
		key, value, _ := strings.Cut(in.Text(), ": ")
		switch key {
		case "record":
			record = value
		case "format":
			if format, err = strconv.Unquote(value); err != nil {
				t.Fatalf("line %d: %v", line, err)
			}
		case "want":
			cases++
			want, err := strconv.Unquote(value)
			if err != nil {
				t.Fatalf("line %d: %v", line, err)
			}
			c, err := Compile(format, options)
			if err != nil {
				t.Errorf("line %d: %v", line, err)
				continue
			}
			if got := string(c.Append(nil, records[record])); got != want {
				t.Errorf("line %d:\n got %q\nwant %q", line, got, want)
			}
		case "error":
			cases++
			if _, err := Compile(format, options); err == nil || !strings.Contains(err.Error(), value) {
				t.Errorf("line %d: error is %v, want it to contain %q", line, err, value)
			}
		default:
			if in.Text() != "" && !strings.HasPrefix(in.Text(), "#") {
				t.Fatalf("line %d: %q is no field of a case", line, in.Text())
			}
		}
	}
	if cases < 20 {
		t.Errorf("only %d cases were read", cases)
	}
}

const istioJSON = `{
 "start_time": "%START_TIME%", "route_name": "%ROUTE_NAME%", "method": "%REQ(:METHOD)%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
 "protocol": "%PROTOCOL%", "response_code": "%RESPONSE_CODE%", "response_flags": "%RESPONSE_FLAGS%",
 "response_code_details": "%RESPONSE_CODE_DETAILS%", "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
 "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "bytes_received": "%BYTES_RECEIVED%",
 "bytes_sent": "%BYTES_SENT%", "duration": "%DURATION%", "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
 "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%", "user_agent": "%REQ(USER-AGENT)%", "request_id": "%REQ(X-REQUEST-ID)%",
 "authority": "%REQ(:AUTHORITY)%", "upstream_host": "%UPSTREAM_HOST%", "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
 "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%", "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
 "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%", "requested_server_name": "%REQUESTED_SERVER_NAME%"}`

func mustJSON(t *testing.T, src string, omit bool) *JSON {
	t.Helper()
	s := &structpb.Struct{}
	if err := s.UnmarshalJSON([]byte(src)); err != nil {
		t.Fatal(err)
	}
	o := options
	o.OmitEmpty, o.Report = omit, func(string) {}
	j, err := CompileJSON(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// Numbers stay numbers, absent values are null, keys are sorted, constants and nesting stay, mixed text is a string.
func TestJSON(t *testing.T) {
	for _, c := range []struct {
		name, record, format, want string
		omit                       bool
	}{
		{"istio's default", "get", istioJSON, `{"authority":"reviews:8000","bytes_received":0,"bytes_sent":357,"connection_termination_details":null,"downstream_local_address":"10.96.0.10:8000","downstream_remote_address":"10.244.0.5:41522","duration":12,"method":"GET","path":"/reviews/1?full=1","protocol":"HTTP/1.1","request_id":"6d4a1f5e-0b1c-9f3a-8f7e-1c2b3a4d5e6f","requested_server_name":null,"response_code":200,"response_code_details":"via_upstream","response_flags":"-","route_name":"default","start_time":"2026-11-23T09:05:07.042Z","upstream_cluster":"inbound-vip|8000|http|reviews.default.svc.cluster.local","upstream_host":"envoy://connect_originate/10.244.1.7:8000","upstream_local_address":"envoy://internal_client_address/","upstream_service_time":"11","upstream_transport_failure_reason":null,"user_agent":"curl/8.5.0","x_forwarded_for":null}`, false},
		{"mixed and constant", "get", `{"b":"%REQ(:METHOD)% %REQ(NONE)%","a":{"n":1.5,"t":true,"z":null,"l":["x","%RESPONSE_CODE%","%REQ(NONE)%"]}}`,
			`{"a":{"l":["x",200,null],"n":1.5,"t":true,"z":null},"b":"GET -"}`, false},
		{"omit empty", "get", `{"a":{"x":"%REQ(NONE)%"},"b":"%REQ(:METHOD)%%REQ(NONE)%","c":["%REQ(NONE)%"],"d":"%REQ(NONE)%"}`,
			`{"b":"GET","c":[]}`, true},
		{"all omitted", "empty", `{"d":"%REQ(NONE)%"}`, `{}`, true},
		{"metadata keeps its type", "get", `{"jwt":"%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload)%"}`, `{"jwt":{"exp":17,"sub":"alice"}}`, false},
		{"CEL is text, TYPED_CEL keeps its type", "get", `{"a":"%CEL(response.code)%","b":"%TYPED_CEL(response.code)%","c":"%TYPED_CEL(request.method)%","d":"%TYPED_CEL(metadata.filter_metadata['envoy.filters.http.jwt_authn'])%","e":"%CEL(request.pith)%"}`,
			`{"a":"200","b":200,"c":"GET","d":{"payload":{"exp":17,"sub":"alice"}},"e":null}`, false},
		{"the length is not counted in structured values", "get", `{"m":"%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload):3%","s":"%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:sub):3%","t":"%REQ(:path):3%","e":"%ENVIRONMENT(NONE)%","d":"%COMMON_DURATION(US_TX_BEG:US_RX_BEG)%"}`,
			`{"d":9,"e":"-","m":{"exp":17,"sub":"alice"},"s":"alice","t":"/re"}`, false},
		{"hostile path", "nasty", `{"p\"":"%REQ(:PATH)%","m":"%REQ(:METHOD)%x"}`, "{\"m\":\"GETx\",\"p\\\"\":\"/\\\"\\\\\\n\\u0001\\u007f\uFFFD é\"}", false},
	} {
		got := string(mustJSON(t, c.format, c.omit).Append(nil, records[c.record]))
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("%s: not JSON: %s", c.name, got)
		}
	}
	s, err := structpb.NewStruct(map[string]any{"outer": map[string]any{"key": "%NOPE%"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CompileJSON(s, options); err == nil || !strings.Contains(err.Error(), `"key"`) || !strings.Contains(err.Error(), "NOPE") {
		t.Errorf("error is %v, want key and operator in it", err)
	}
}

// Value is what header values and tags use: absent is not "-".
func TestValue(t *testing.T) {
	for _, c := range []struct {
		format, want string
		ok           bool
	}{
		{"fixed", "fixed", true}, {"", "", true}, {"%REQ(NONE)%", "", false}, {"%REQ(:METHOD)%", "GET", true},
		{"%REQ(x-empty)%", "", true}, {"a-%REQ(NONE)%-%REQ(:METHOD)%", "a---GET", true},
	} {
		f, err := Compile(c.format, options)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := f.Value(records["get"]); got != c.want || ok != c.ok {
			t.Errorf("%q: %q, %v; want %q, %v", c.format, got, ok, c.want, c.ok)
		}
	}
}

// Text and JSON lines of the default formats do not allocate once the buffer is large enough.
func TestNoAllocation(t *testing.T) {
	f, err := Compile("[%START_TIME%] %REQ(:METHOD)% %REQ(USER-AGENT)% %RESPONSE_CODE% %RESPONSE_FLAGS% %DURATION% %DOWNSTREAM_REMOTE_ADDRESS% %UPSTREAM_HOST%\n", options)
	if err != nil {
		t.Fatal(err)
	}
	j := mustJSON(t, istioJSON, false)
	buf, r := make([]byte, 0, 4096), records["get"]
	if n := testing.AllocsPerRun(100, func() { buf = f.Append(buf[:0], r) }); n != 0 {
		t.Errorf("text: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { buf = j.Append(buf[:0], r) }); n != 0 {
		t.Errorf("JSON: %v allocations", n)
	}
}

// Whatever the format, Compile does not panic, and what it accepts prints valid JSON.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{"%REQ(:PATH):3%", "%START_TIME(%s.%3f)%", "%%", "%A", "%FILTER_STATE(a:FIELD:b):2%", "%DYNAMIC_METADATA(a:b)%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Compile(s, options)
		if err != nil {
			return
		}
		for _, r := range records {
			if out, _ := c.appendJSON(nil, r); !json.Valid(out) {
				t.Errorf("%q gives %q, which is not JSON", s, out)
			}
		}
	})
}

func BenchmarkText(b *testing.B) {
	f, err := Compile("[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_SENT% %DURATION% %DOWNSTREAM_REMOTE_ADDRESS%\n", options)
	if err != nil {
		b.Fatal(err)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = f.Append(buf[:0], records["get"])
	}
}
