package cel

import (
	"bufio"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

var update = flag.Bool("update", false, "rewrite testdata/cel.txt")

type headerList [][2]string

func (h headerList) Get(name string) (string, bool) {
	for _, l := range h {
		if l[0] == name {
			return l[1], true
		}
	}
	return "", false
}

func (h headerList) Lines(yield func(name, value string) bool) {
	for _, l := range h {
		if !yield(l[0], l[1]) {
			return
		}
	}
}

type state map[string]string

func (s state) Plain(key string) (string, bool)     { v, ok := s[key]; return v, ok }
func (s state) Field(string, string) (string, bool) { return "", false }

type metadata map[string]*structpb.Struct

func (m metadata) Lookup(source telemetry.MetadataSource, namespace string, _ []string) *structpb.Value {
	s := m[fmt.Sprint(source)+namespace]
	if s == nil {
		return nil
	}
	return structpb.NewStructValue(s)
}

func object2(t testing.TB, m map[string]any) *structpb.Struct {
	t.Helper()
	s, err := structpb.NewStruct(m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func records(t testing.TB) map[string]*telemetry.Record {
	return map[string]*telemetry.Record{
		"empty": {},
		"get": {
			Start:    time.Date(2026, 11, 23, 9, 5, 7, 42123456, time.UTC),
			Duration: telemetry.Took(12500 * time.Microsecond),
			Protocol: telemetry.HTTP11, Method: "GET", Path: "/reviews/1?full=1&b=2", Authority: "reviews:8000", Scheme: "http",
			RequestHeaders:   headerList{{":method", "GET"}, {"user-agent", "curl/8.5.0"}, {"x-team", "blue,green"}},
			ResponseHeaders:  headerList{{"content-type", "application/json"}},
			ResponseTrailers: headerList{{"x-sum", "abc"}},
			RequestID:        "6d4a1f5e", ResponseCode: 200, ResponseCodeDetails: "via_upstream", BytesSent: 357, BytesReceived: 5,
			DownstreamRemote: netip.MustParseAddrPort("10.244.0.5:41522"), DownstreamLocal: netip.MustParseAddrPort("10.96.0.10:8000"),
			UpstreamHost: "10.244.1.7:8000", UpstreamAddress: netip.MustParseAddrPort("10.244.1.7:8000"), Attempts: 2, ConnectionID: 7,
			UpstreamCluster: "inbound-vip|8000|http|reviews.default.svc.cluster.local", RouteName: "default", VirtualHost: "inbound", FilterChain: "c",
			PeerPrincipal: "spiffe://cluster.local/ns/default/sa/curl", LocalPrincipal: "spiffe://cluster.local/ns/default/sa/waypoint",
			Source:      &telemetry.Peer{Workload: "curl", Namespace: "default", App: "curl", Version: "v2", CanonicalService: "curl"},
			Destination: &telemetry.Peer{Workload: "reviews-v1", Region: "r1", Zone: "z1"},
			FilterState: state{"my.key": "mine"},
			Metadata: metadata{
				"0envoy.filters.http.jwt_authn": object2(t, map[string]any{"payload": map[string]any{"sub": "alice", "exp": 17, "aud": []any{"a", "b"}}}),
				"1istio":                        object2(t, map[string]any{"config": "/apis/reviews-route"}),
			},
			Timing: telemetry.Timing{UpstreamFirstTx: telemetry.At(time.Millisecond), UpstreamLastRx: telemetry.At(11 * time.Millisecond)},
		},
		"denied": {
			Method: "POST", Path: "/admin", RequestHeaders: headerList{}, ResponseCode: 403, GRPC: true, GRPCStatus: telemetry.GRPC(7),
			Flags: telemetry.FlagsOf(telemetry.FlagUpstreamConnectionFailure, telemetry.FlagFailedLocalHealthCheck),
		},
	}
}

func node(t testing.TB) *corev3.Node {
	return &corev3.Node{
		Id: "waypoint~10.0.0.9~w~c", Cluster: "waypoint.default", Locality: &corev3.Locality{Zone: "z1"},
		Metadata: object2(t, map[string]any{"MESH_ID": "mesh", "LABELS": map[string]any{"app": "w"}}),
	}
}

// testdata/cel.txt is the specification. Each case names a record above, an expression, and then what it prints, whether it is
// true for a filter, what JSON it is, and what is reported when it is compiled.
func TestExpressions(t *testing.T) {
	const file = "testdata/cel.txt"
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // read only
	env, recs := NewEnv(node(t)), records(t)
	var out strings.Builder
	record, cases := "", 0
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			out.WriteString(line + "\n")
		case name == "record":
			record = value
			if recs[record] == nil {
				t.Fatalf("%s:%d: no record %q", file, n, record)
			}
			out.WriteString(line + "\n")
		case strings.HasPrefix(line, "  => "):
			// written anew below
		default:
			cases++
			out.WriteString(line + "\n  => " + describe(env, line, recs[record]) + "\n")
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case cases < 40:
		t.Errorf("only %d cases", cases)
	case *update:
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	case out.String() != string(want):
		got, exp := strings.Split(out.String(), "\n"), strings.Split(string(want), "\n")
		for i := range got {
			if i >= len(exp) || got[i] != exp[i] {
				t.Errorf("%s:%d: is\n%s\nwant\n%s", file, i+1, got[i], exp[min(i, len(exp)-1)])
			}
		}
	}
}

func describe(env *Env, expression string, r *telemetry.Record) string {
	p, err := env.Compile(expression)
	if err != nil {
		return "refused: " + err.Error()
	}
	var b strings.Builder
	if v, ok := p.Text(r); ok {
		fmt.Fprintf(&b, "%s", v)
		j, text, _ := p.AppendJSON(nil, r)
		if !text && string(j) != v {
			fmt.Fprintf(&b, " (JSON %s)", j)
		}
	} else {
		b.WriteString("absent")
	}
	if p.Bool(r) {
		b.WriteString(", passes")
	}
	if u := p.Unavailable(); len(u) > 0 {
		fmt.Fprintf(&b, ", reported %v", u)
	}
	return b.String()
}

// One program serves many requests at once.
func TestConcurrentUse(t *testing.T) {
	p, err := NewEnv(nil).Compile(`request.path + "!" + string(response.code)`)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r := &telemetry.Record{Path: fmt.Sprint("/", i), ResponseCode: 200 + i}
			want := fmt.Sprintf("/%d!%d", i, 200+i)
			for range 200 {
				if got, _ := p.Text(r); got != want {
					t.Errorf("%q, want %q", got, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

// Whatever the expression, neither Compile nor an evaluation panics.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{"request.path", "1/0", "[1][2]", "request.headers.map(h, h + '!')", "timestamp('x')", "duration('1h') * 2", "'a'.matches('(')", "{'a': 1}.b", "request[1]", "filter_state['x'].y"} {
		f.Add(s)
	}
	env, recs := NewEnv(node(f)), records(f)
	f.Fuzz(func(_ *testing.T, s string) {
		p, err := env.Compile(s)
		if err != nil {
			return
		}
		for _, r := range recs {
			_ = p.Bool(r)
			_, _, _ = p.AppendJSON(nil, r)
		}
	})
}

func BenchmarkFilter(b *testing.B) {
	p, err := NewEnv(nil).Compile(`response.code >= 400 && request.path.startsWith("/admin")`)
	if err != nil {
		b.Fatal(err)
	}
	r := records(b)["denied"]
	b.ReportAllocs()
	for b.Loop() {
		if !p.Bool(r) {
			b.Fatal("false")
		}
	}
}
