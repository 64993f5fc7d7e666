package rbac

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"sigs.k8s.io/yaml"

	"github.com/gowaypoint/gowaypoint/authz"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// TestFixtures runs testdata/*.txt. A fixture is prose, with blocks that begin at the first column and go on indented:
//
//	rules:             YAML of envoy.config.rbac.v3.RBAC, for the requests that follow
//	request: title     YAML of requestYAML
//	=> …               what came out: the error of the rules, or verdict, details and explanation of the request
//
// The "=>" blocks are written by go test -update; read the diff before committing it.
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runFixture(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("%s differs; with what came out it would be:\n%s", file, got)
			}
		})
	}
}

// runFixture returns the fixture with its "=>" blocks as they come out now.
func runFixture(t *testing.T, text string) string {
	t.Helper()
	var out strings.Builder
	var set *authz.PolicySet
	lines := strings.SplitAfter(text, "\n")
	for i := 0; i < len(lines); {
		head := lines[i]
		if strings.HasPrefix(head, "=>") {
			for i++; i < len(lines) && strings.HasPrefix(lines[i], "  "); i++ {
			}
			continue
		}
		out.WriteString(head)
		i++
		isRules, isRequest := head == "rules:\n", strings.HasPrefix(head, "request:")
		if !isRules && !isRequest {
			continue
		}
		var block strings.Builder
		for ; i < len(lines) && strings.HasPrefix(lines[i], "  "); i++ {
			block.WriteString(strings.TrimPrefix(lines[i], "  "))
		}
		out.WriteString(indent(block.String(), "  "))
		if isRules {
			var err error
			if set, err = Compile(parseRules(t, block.String())); err != nil {
				fmt.Fprintf(&out, "=> error: %v\n", spaces(err.Error()))
			}
			continue
		}
		out.WriteString("=> " + indent(outcome(t, set, parseRequest(t, block.String())), "   ")[3:])
	}
	return out.String()
}

// spaces undoes the no-break spaces that protobuf's error messages sometimes hold.
func spaces(s string) string { return strings.ReplaceAll(s, "\u00a0", " ") }

func outcome(t *testing.T, set *authz.PolicySet, r *authz.Request) string {
	t.Helper()
	d, x := set.Decide(r), set.Explain(r)
	if d != x.Decision {
		t.Errorf("Decide says %+v, Explain %+v", d, x.Decision)
	}
	s := x.String()
	if d.Details != "" {
		s += d.Details + "\n"
	}
	return s
}

func indent(s, by string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(by + line)
	}
	return b.String()
}

func parseRules(t testing.TB, text string) *rbacv3.RBAC {
	t.Helper()
	var rules rbacv3.RBAC
	json, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(json, &rules); err != nil {
		t.Fatal(err)
	}
	return &rules
}

// requestYAML is a request in a fixture. It is HTTP unless it is empty of HTTP attributes.
type requestYAML struct {
	Method, Scheme, Authority, Path string
	Headers                         []string // "name: value", in order
	Principal                       string   // filter state io.istio.peer_principal
	FilterState                     map[string]string
	Source, Direct, Remote          string
	Destination                     string
	SNI                             string
	Metadata, RouteMetadata         map[string]map[string]any
	Peer                            *authz.Peer
}

func parseRequest(t testing.TB, text string) *authz.Request {
	t.Helper()
	var y requestYAML
	if err := yaml.UnmarshalStrict([]byte(text), &y); err != nil {
		t.Fatal(err)
	}
	state := testState(y.FilterState)
	if y.Principal != "" {
		state = testState{authz.PeerPrincipal: y.Principal}
	}
	r := &authz.Request{
		HTTP:   y.Method != "" || y.Path != "" || y.Authority != "" || y.Headers != nil,
		Method: y.Method, Scheme: y.Scheme, Authority: y.Authority, Path: y.Path,
		Headers: newHeaders(t, y.Headers), FilterState: state, Peer: y.Peer, ServerName: y.SNI,
		SourceIP: addr(t, y.Source), DirectRemoteIP: addr(t, y.Direct), RemoteIP: addr(t, y.Remote),
		Metadata: testMetadata{authz.DynamicMetadata: structs(t, y.Metadata), authz.RouteMetadata: structs(t, y.RouteMetadata)},
	}
	if y.Destination != "" {
		r.Destination = netip.MustParseAddrPort(y.Destination)
	}
	return r
}

func addr(t testing.TB, s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func structs(t testing.TB, all map[string]map[string]any) map[string]*structpb.Struct {
	m := map[string]*structpb.Struct{}
	for filter, fields := range all {
		s, err := structpb.NewStruct(fields)
		if err != nil {
			t.Fatal(err)
		}
		m[filter] = s
	}
	return m
}

type testState map[string]string

func (s testState) FilterState(key string) (string, bool) { v, ok := s[key]; return v, ok }

type testMetadata [2]map[string]*structpb.Struct

func (m testMetadata) Metadata(source authz.MetadataSource, filter string) *structpb.Struct {
	return m[source][filter]
}

type testHeaders map[string][]string

func newHeaders(t testing.TB, lines []string) testHeaders {
	h := testHeaders{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			t.Fatalf("header %q: want \"name: value\"", line)
		}
		h[name] = append(h[name], value)
	}
	return h
}

func (h testHeaders) Header(name string, i int) (string, bool) {
	if i < len(h[name]) {
		return h[name][i], true
	}
	return "", false
}
