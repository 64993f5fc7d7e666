package rbac

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"sigs.k8s.io/yaml"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/internal/fixture"
)

// TestFixtures runs testdata/*.txt. A fixture is prose, with blocks that begin at the first column and go on indented:
//
//	rules:             YAML of envoy.config.rbac.v3.RBAC, for the requests that follow
//	http filter:       YAML of the HTTP filter, likewise
//	network filter:    YAML of the network filter, likewise
//	request: title     YAML of requestYAML
//	=> …               what came out: the error or the notes of the configuration; verdict, details and explanation of the request
//
// The "=>" blocks are written by go test -update; read the diff before committing it.
func TestFixtures(t *testing.T) {
	fixture.Run(t, "testdata/*.txt", runFixture)
}

// runFixture returns the fixture with its "=>" blocks as they come out now.
func runFixture(t *testing.T, text string) string {
	t.Helper()
	var out strings.Builder
	var f *Filter
	for _, b := range blocks(text) {
		out.WriteString(b.head + indent(b.body, "  "))
		switch {
		case b.isConfig():
			var err error
			if f, err = compileBlock(t, b); err != nil {
				fmt.Fprintf(&out, "=> error: %v\n", spaces(err.Error()))
				continue
			}
			out.WriteString(about(f))
		case strings.HasPrefix(b.head, "request:"):
			if f == nil {
				t.Fatalf("%s comes after an error", b.head)
			}
			out.WriteString("=> " + indent(filterOutcome(t, f, parseRequest(t, b.body)), "   ")[3:])
		}
	}
	return out.String()
}

// block is a line of a fixture, with the indented lines that follow it. Blocks of prose have no body.
type block struct{ head, body string }

func (b block) isConfig() bool {
	return b.head == "rules:\n" || b.head == "http filter:\n" || b.head == "network filter:\n"
}

// blocks splits a fixture, and leaves its "=>" blocks out.
func blocks(text string) []block {
	var all []block
	lines := strings.SplitAfter(text, "\n")
	for i := 0; i < len(lines); {
		b := block{head: lines[i]}
		i++
		prose := !b.isConfig() && !strings.HasPrefix(b.head, "request:") && !strings.HasPrefix(b.head, "=>")
		for ; !prose && i < len(lines) && strings.HasPrefix(lines[i], "  "); i++ {
			b.body += strings.TrimPrefix(lines[i], "  ")
		}
		if !strings.HasPrefix(b.head, "=>") {
			all = append(all, b)
		}
	}
	return all
}

// anyType finds the type of an Any without the part before its slash, which fixtures leave out.
var anyType = regexp.MustCompile(`"@type": (envoy|xds|google)\.`)

// parseBlock returns the message of a block.
func parseBlock(t testing.TB, b block) proto.Message {
	t.Helper()
	json, err := yaml.YAMLToJSON([]byte(anyType.ReplaceAllString(b.body, `"@type": type.googleapis.com/$1.`)))
	if err != nil {
		t.Fatal(err)
	}
	var m proto.Message
	switch b.head {
	case "rules:\n":
		m = &rbacv3.RBAC{}
	case "http filter:\n":
		m = &httpv3.RBAC{}
	default:
		m = &networkv3.RBAC{}
	}
	if err := protojson.Unmarshal(json, m); err != nil {
		t.Fatalf("%v in\n%s", err, b.body)
	}
	if n, ok := m.(*networkv3.RBAC); ok && n.StatPrefix == "" { // it is required
		n.StatPrefix = "tcp."
	}
	return m
}

func compileBlock(t testing.TB, b block) (*Filter, error) {
	t.Helper()
	return compileMessage(parseBlock(t, b))
}

func compileMessage(m proto.Message) (*Filter, error) {
	switch m := m.(type) {
	case *httpv3.RBAC:
		return FromHTTP(m)
	case *networkv3.RBAC:
		return FromNetwork(m)
	}
	rules := m.(*rbacv3.RBAC)
	set, err := Compile(rules)
	if err != nil {
		return nil, err
	}
	a, err := AuditOf(rules)
	return &Filter{Enforced: set, EnforcedAudit: a}, err
}

// about says what a filter has besides rules.
func about(f *Filter) string {
	var b strings.Builder
	for _, note := range f.Notes {
		fmt.Fprintf(&b, "=> note: %s\n", note)
	}
	audit := func(name string, a *Audit) {
		if a != nil {
			fmt.Fprintf(&b, "=> %s: on deny %v, on allow %v, on standard output %v\n", name, a.OnDeny, a.OnAllow, a.Stdout)
		}
	}
	audit("audit", f.EnforcedAudit)
	audit("shadow audit", f.ShadowAudit)
	if f.PerRuleStats || f.DelayDeny != 0 || f.RulesStatPrefix != "" || f.ShadowRulesStatPrefix != "" || f.StatPrefix != "" {
		fmt.Fprintf(&b, "=> counters %q, of rules %q, of shadow rules %q, per policy %v; a denial is held %v\n",
			f.StatPrefix, f.RulesStatPrefix, f.ShadowRulesStatPrefix, f.PerRuleStats, f.DelayDeny)
	}
	return b.String()
}

// filterOutcome is what comes of a request, and which of it goes elsewhere.
func filterOutcome(t *testing.T, f *Filter, r *authz.Request) string {
	t.Helper()
	var b strings.Builder
	if f.Shadow != nil {
		fmt.Fprintf(&b, "shadow: %s", outcome(t, f.Shadow, r))
		if d := f.Shadow.Decide(r); f.ShadowAudit.Wants(d) {
			b.WriteString("shadow audit\n")
		}
	}
	if f.Enforced == nil {
		return b.String()
	}
	b.WriteString(outcome(t, f.Enforced, r))
	d := f.Enforced.Decide(r)
	if f.EnforcedAudit.Wants(d) {
		b.WriteString("audit\n")
	}
	if hint, ok := f.LogHint(d); ok {
		fmt.Fprintf(&b, "access log hint: %v\n", hint)
	}
	return b.String()
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
