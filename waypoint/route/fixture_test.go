package route

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/message"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"sigs.k8s.io/yaml"
)

var rewrite = flag.Bool("rewrite", false, "write what came out into testdata instead of comparing")

// TestFixtures runs testdata/*.txt. A file begins with prose ("#"), then blocks: "== config" is a route configuration in YAML,
// "== notes" or "== error" what Compile says about it, "== request" a request, "== want" what becomes of it.
//
// A request is "METHOD scheme://authority/path", then fields, then directives:
//
//	@metadata NAMESPACE JSON   dynamic metadata
//	@random N                  the number that decides about fractions, and about weights
//	@cert                      the client showed a certificate
//	@filter NAME               show the filter's configuration for the route
//	@response STATUS           show this response, whose fields follow, as the client gets it
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) { runFixture(t, name) })
	}
}

type block struct {
	prose, kind string
	lines       []string
}

func (b block) body() string { return strings.Trim(strings.Join(b.lines, "\n"), "\n") }

func readBlocks(t testing.TB, name string) []block {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	blocks := []block{{}}
	prose := ""
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		switch {
		case strings.HasPrefix(line, "#"):
			prose += line + "\n"
		case strings.HasPrefix(line, "== "):
			blocks = append(blocks, block{prose: prose, kind: strings.TrimPrefix(line, "== ")})
			prose = ""
		default:
			last := &blocks[len(blocks)-1]
			last.lines = append(last.lines, line)
		}
	}
	return blocks[1:]
}

func runFixture(t *testing.T, name string) {
	var cfg *Config
	var notes []string
	var fail error
	var request block
	var out strings.Builder
	for _, b := range readBlocks(t, name) {
		got := b.body()
		switch b.kind {
		case "config":
			if fail != nil {
				t.Errorf("%s: a configuration failed and the fixture does not expect it: %v", name, fail)
			}
			cfg, notes, fail = compileYAML(t, got)
		case "error":
			got, fail = fmt.Sprint(fail), nil
		case "notes":
			got = strings.Join(notes, "\n")
		case "request":
			if fail != nil || cfg == nil {
				t.Fatalf("%s: no configuration for the request: %v", name, fail)
			}
			request = b
		case "want":
			got = play(t, cfg, request)
		default:
			t.Fatalf("%s: unknown block %q", name, b.kind)
		}
		if !*rewrite && got != b.body() {
			t.Errorf("%s\n%s%s\n-- want\n%s\n-- got\n%s", name, request.prose, request.body(), b.body(), got)
		}
		fmt.Fprintf(&out, "%s== %s\n%s\n\n", b.prose, b.kind, got)
	}
	if fail != nil {
		t.Errorf("%s: a configuration failed and the fixture does not expect it: %v", name, fail)
	}
	if *rewrite {
		if err := os.WriteFile(name, []byte(strings.TrimSuffix(out.String(), "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func parseYAML(t testing.TB, text string) *routev3.RouteConfiguration {
	j, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	rc := &routev3.RouteConfiguration{}
	if err := protojson.Unmarshal(j, rc); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return rc
}

// testOptions know one filter, cors.
func testOptions() Options {
	var o Options
	o.Filters.HTTP = map[string]filter.Compiler[filter.HTTP]{
		"envoy.extensions.filters.http.cors.v3.CorsPolicy": {NewRoute: func(m proto.Message) (any, error) {
			methods := m.(*corsv3.CorsPolicy).GetAllowMethods()
			if methods == "NONE" {
				return nil, errors.New(`allow_methods: "NONE" is no method`)
			}
			return "cors for " + methods, nil
		}},
	}
	return o
}

func compileYAML(t testing.TB, text string) (*Config, []string, error) {
	cfg, notes, err := Compile(parseYAML(t, text), testOptions())
	return cfg, notes, err
}

// play sends a request through the configuration and describes what happens.
func play(t testing.TB, cfg *Config, b block) string {
	var req, resp message.Head
	r := &Request{Head: &req, Random: 1 << 32}
	metadata := map[string]*structpb.Value{}
	r.Metadata = func(namespace string, path []string) *structpb.Value {
		v := metadata[namespace]
		for _, k := range path {
			v = v.GetStructValue().GetFields()[k]
		}
		return v
	}
	filterName, random := "", uint64(0)
	head := &req
	for i, line := range b.lines {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "":
		case i == 0:
			req.Method = word
			if word == "CONNECT" {
				req.Authority = rest
				break
			}
			req.Scheme, rest, _ = strings.Cut(rest, "://")
			slash := strings.IndexByte(rest, '/')
			req.Authority, req.Path = rest[:slash], rest[slash:]
		case word == "@metadata":
			namespace, text, _ := strings.Cut(rest, " ")
			var v structpb.Value
			if err := protojson.Unmarshal([]byte(text), &v); err != nil {
				t.Fatal(err)
			}
			metadata[namespace] = &v
		case word == "@random":
			n, err := strconv.ParseUint(rest, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			r.Random, random = n+1_000_000, n // 0 would mean "draw"; all denominators divide a million
		case word == "@cert":
			r.ClientCert = true
		case word == "@filter":
			filterName = rest
		case word == "@response":
			head = &resp
			resp.Status, _ = strconv.Atoi(rest)
		default:
			k, v, ok := strings.Cut(line, ": ")
			if !ok {
				t.Fatalf("no field: %q", line)
			}
			head.Fields.Append(k, unquote(v))
		}
	}
	route := cfg.Match(r)
	if route == nil {
		return "404"
	}
	out := []string{"route " + route.Name}
	rec := &telemetry.Record{RequestHeaders: &req, RouteName: route.Name, ResponseCodeDetails: "via_upstream"}
	var choice *WeightedCluster
	switch {
	case route.Refused != nil:
		return out[0] + "\nrefused: " + strings.ReplaceAll(route.Refused.Error(), "\n", "\nrefused: ")
	case route.Redirect != nil:
		out = append(out, fmt.Sprintf("%d %s", route.Redirect.Status, route.Redirect.Location(&req)))
	case route.Direct != nil:
		out = append(out, fmt.Sprintf("%d %q", route.Direct.Status, route.Direct.Body))
	default:
		if len(route.Forward.Clusters) > 0 {
			choice = route.Forward.Choose(random)
			out = append(out, "to "+choice.Name)
		} else {
			name, _ := req.Get(route.Forward.ClusterHeader)
			out = append(out, "to "+name+" by "+route.Forward.ClusterHeader)
		}
		route.ApplyRequest(&req, choice, rec)
		out = append(out, req.Method+" "+req.Scheme+"://"+req.Authority+req.Path)
		out = append(out, lines(&req)...)
	}
	if filterName != "" {
		out = append(out, fmt.Sprintf("filter %v", route.FilterConfig(filterName, choice)))
	}
	if head == &resp {
		route.ApplyResponse(&resp, choice, rec)
		out = append(out, fmt.Sprintf("response %d", resp.Status))
		out = append(out, lines(&resp)...)
	}
	return strings.Join(out, "\n")
}

// unquote reads a value in Go quotes, for what does not show.
func unquote(v string) string {
	if u, err := strconv.Unquote(v); err == nil && strings.HasPrefix(v, `"`) {
		return u
	}
	return v
}

func lines(h *message.Head) (out []string) {
	for _, f := range h.Fields.All() {
		v := f.Value
		if strings.TrimSpace(v) != v || strings.ContainsAny(v, "\r\n") || v == "" {
			v = strconv.Quote(v)
		}
		out = append(out, f.Name+": "+v)
	}
	return out
}

// TestSamples compiles the route configurations that a real istiod has sent, and routes a request by each.
func TestSamples(t *testing.T) {
	data, err := os.ReadFile("testdata/istiod.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, one := range all {
		rc := &routev3.RouteConfiguration{}
		if err := protojson.Unmarshal(one, rc); err != nil {
			t.Fatal(err)
		}
		cfg, notes, err := Compile(rc, Options{})
		if err != nil || len(notes) > 0 {
			t.Errorf("%s: %v, notes %q", rc.GetName(), err, notes)
			continue
		}
		for _, v := range cfg.VirtualHosts {
			for _, r := range v.Routes {
				if r.Refused != nil || r.Forward == nil {
					t.Errorf("%s: route %q: %v", rc.GetName(), r.Name, r.Refused)
				}
				names = append(names, r.Name)
			}
		}
		r := &Request{Head: &message.Head{Method: "GET", Scheme: "http", Authority: "helloworld:5000", Path: "/hello"}}
		if cfg.VirtualHosts[0].Routes[0].Match.Kind == PathConnect {
			r.Head = &message.Head{Method: "CONNECT", Authority: "10.96.0.10:5000"}
		}
		if got := cfg.Match(r); got == nil || got.Forward.Timeout == defaultTimeout && got.Match.Kind != PathConnect {
			t.Errorf("%s: %+v", rc.GetName(), got)
		}
	}
	sort.Strings(names)
	if len(names) < 5 {
		t.Errorf("only routes %q", names)
	}
}
