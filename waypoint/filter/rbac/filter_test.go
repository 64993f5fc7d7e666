package rbac_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	. "github.com/gowaypoint/gowaypoint/waypoint/filter/filtertest"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/rbac"

	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
)

// one is the JSON of rules with one policy: an RBAC action, permissions and principals.
func one(action, name, permission, principal string) string {
	return fmt.Sprintf(`{"action":%q,"policies":{%q:{"permissions":[%s],"principals":[%s]}}}`, action, name, permission, principal)
}

const anybody = `{"any":true}`

func method(m string) string {
	return fmt.Sprintf(`{"header":{"name":":method","string_match":{"exact":%q}}}`, m)
}

func compile(t testing.TB, stats *metrics.Stats, config string) filter.HTTP {
	t.Helper()
	return Build(t, rbac.HTTP(rbac.Options{Stats: stats}), "envoy.filters.http.rbac", Parse(t, &httpv3.RBAC{}, config))
}

func counts(t testing.TB, stats *metrics.Stats, want map[string]uint64) {
	t.Helper()
	for name, n := range want {
		if got, ok := stats.Lookup(name); !ok || got != n {
			t.Errorf("%s is %d (%v), want %d", name, got, ok, n)
		}
	}
}

func get(x *filter.Exchange, key string) string {
	return x.Metadata.Get(ns, key).GetStringValue()
}

const ns = "envoy.filters.http.rbac"

func TestAllowAndDeny(t *testing.T) {
	stats := metrics.NewStats()
	f := compile(t, stats, `{"rules":`+one("ALLOW", "ns[a]-policy[get only]-rule[0]", method("GET"), anybody)+`}`)

	x := New("GET", "/")
	if f.Request(x) != filter.Continue {
		t.Fatal("GET was denied")
	}
	if x.Record.Policy != "ns[a]-policy[get only]-rule[0]" {
		t.Errorf("policy %q", x.Record.Policy)
	}
	if get(x, "enforced_engine_result") != "allowed" || get(x, "enforced_effective_policy_id") != x.Record.Policy {
		t.Errorf("metadata %v", x.Metadata.Struct(ns))
	}

	x = New("POST", "/")
	if f.Request(x) != filter.Stop {
		t.Fatal("POST was allowed")
	}
	r := x.TakeReply()
	if r.Status != 403 || r.Body != "RBAC: access denied" || r.Details != "rbac_access_denied_matched_policy[none]" || r.Flag != 0 {
		t.Errorf("%+v", r)
	}
	if x.Record.Policy != "" || get(x, "enforced_engine_result") != "denied" || x.Metadata.Get(ns, "enforced_effective_policy_id") != nil {
		t.Errorf("policy %q, metadata %v", x.Record.Policy, x.Metadata.Struct(ns))
	}
	counts(t, stats, map[string]uint64{"http.rbac.allowed": 1, "http.rbac.denied": 1, "http.rbac.shadow_allowed": 0, "http.rbac.shadow_denied": 0})
}

func TestDenyNamesThePolicy(t *testing.T) {
	f := compile(t, metrics.NewStats(), `{"rules":`+one("DENY", "ns[a]-policy[no post]-rule[0]", method("POST"), anybody)+`}`)
	x := New("POST", "/")
	if f.Request(x) != filter.Stop {
		t.Fatal("POST was allowed")
	}
	if r := x.TakeReply(); r.Details != "rbac_access_denied_matched_policy[ns[a]-policy[no_post]-rule[0]]" {
		t.Errorf("%+v", r)
	}
	if x.Record.Policy != "ns[a]-policy[no post]-rule[0]" {
		t.Errorf("policy %q", x.Record.Policy)
	}
}

// A policy sees that a request asks for another protocol, which the front end has taken off the headers.
func TestUpgradeIsAHeader(t *testing.T) {
	protocol := compile(t, metrics.NewStats(), `{"rules":`+one("ALLOW", "p", `{"header":{"name":":protocol","present_match":true}}`, anybody)+`}`)
	x := New("GET", "/")
	x.Request.Upgrade = "websocket"
	if protocol.Request(x) != filter.Stop {
		t.Error("a policy sees :protocol")
	}
	for _, header := range []string{
		`{"header":{"name":"upgrade","string_match":{"exact":"websocket"}}}`, `{"header":{"name":"connection","string_match":{"exact":"Upgrade"}}}`,
	} {
		f := compile(t, metrics.NewStats(), `{"rules":`+one("DENY", "no websockets", header, anybody)+`}`)
		x := New("GET", "/")
		if f.Request(x) != filter.Continue {
			t.Error("a plain request was denied")
		}
		x = New("GET", "/")
		x.Request.Upgrade, x.Request.Connection = "websocket", "Upgrade"
		if f.Request(x) != filter.Stop {
			t.Errorf("a WebSocket was allowed by a denial of %s", header)
		}
	}
}

// Rules that are absent enforce nothing; rules that are there and empty deny everything.
func TestAbsentAndEmptyRules(t *testing.T) {
	if compile(t, metrics.NewStats(), `{"shadow_rules_stat_prefix":"istio_dry_run_allow_"}`).Request(New("GET", "/")) != filter.Continue {
		t.Error("no rules: denied")
	}
	if compile(t, metrics.NewStats(), `{"rules":{}}`).Request(New("GET", "/")) != filter.Stop {
		t.Error("empty rules: allowed")
	}
}

func TestShadowRulesReportOnly(t *testing.T) {
	stats := metrics.NewStats()
	f := compile(t, stats, `{"shadow_rules_stat_prefix":"istio_ext_authz_","shadow_rules":`+
		one("DENY", "istio-ext-authz-opa-ns[a]-policy[p]-rule[0]", method("GET"), anybody)+`}`)
	x := New("GET", "/")
	if f.Request(x) != filter.Continue {
		t.Fatal("shadow rules denied")
	}
	if get(x, "istio_ext_authz_shadow_engine_result") != "denied" ||
		get(x, "istio_ext_authz_shadow_effective_policy_id") != "istio-ext-authz-opa-ns[a]-policy[p]-rule[0]" {
		t.Errorf("metadata %v", x.Metadata.Struct(ns))
	}
	if x.Record.Policy != "" {
		t.Errorf("a shadow policy decided: %q", x.Record.Policy)
	}
	// A second filter of the chain whose rules do not match leaves the first one's policy.
	g := compile(t, stats, `{"shadow_rules_stat_prefix":"istio_ext_authz_","shadow_rules":`+one("DENY", "other", method("PUT"), anybody)+`}`)
	g.Request(x)
	if get(x, "istio_ext_authz_shadow_effective_policy_id") == "" || get(x, "istio_ext_authz_shadow_engine_result") != "allowed" {
		t.Errorf("metadata %v", x.Metadata.Struct(ns))
	}
	counts(t, stats, map[string]uint64{"http.rbac.istio_ext_authz_.shadow_denied": 1, "http.rbac.istio_ext_authz_.shadow_allowed": 1})
}

func TestLogRulesHintAndDecideNothing(t *testing.T) {
	f := compile(t, metrics.NewStats(), `{"rules":`+one("LOG", "audit", method("GET"), anybody)+`}`)
	for m, want := range map[string]bool{"GET": true, "PUT": false} {
		x := New(m, "/")
		if f.Request(x) != filter.Continue || x.Record.Policy != "" {
			t.Errorf("%s: LOG rules decided (policy %q)", m, x.Record.Policy)
		}
		if v := x.Metadata.Get("envoy.common", "access_log_hint"); v == nil || v.GetBoolValue() != want {
			t.Errorf("%s: hint %v, want %v", m, v, want)
		}
	}
}

// TestAttributes has a rule for each attribute, and an exchange that it matches; without mismatch it must not match the
// unchanged exchange.
func TestAttributes(t *testing.T) {
	jwt, err := structpb.NewStruct(map[string]any{"payload": map[string]any{"iss": "me"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		permission, principal string
		change                func(x *filter.Exchange)
		mismatch              func(x *filter.Exchange)
	}{
		"principal": {
			principal: `{"filter_state":{"key":"io.istio.peer_principal","string_match":{"exact":"` + Principal + `"}}}`,
			mismatch: func(x *filter.Exchange) {
				x.Conn.State.Set(filter.PeerPrincipalKey, "spiffe://cluster.local/ns/x/sa/web", filter.NotShared)
			},
		},
		"the request's own state comes first": {
			principal: `{"filter_state":{"key":"io.istio.peer_principal","string_match":{"exact":"spiffe://mine"}}}`,
			change:    func(x *filter.Exchange) { x.State.Set(filter.PeerPrincipalKey, "spiffe://mine", filter.NotShared) },
		},
		"direct_remote_ip is the HBONE peer's": {
			principal: `{"direct_remote_ip":{"address_prefix":"10.0.0.0","prefix_len":24}}`,
			mismatch:  func(x *filter.Exchange) { x.Conn.Remote = netip.MustParseAddrPort("10.0.1.1:1") },
		},
		"an address of the other family's form": {
			principal: `{"direct_remote_ip":{"address_prefix":"10.0.0.0","prefix_len":24}}`,
			change:    func(x *filter.Exchange) { x.Conn.Remote = netip.MustParseAddrPort("[::ffff:10.0.0.1]:1") },
			mismatch:  func(x *filter.Exchange) { x.Conn.Remote = netip.MustParseAddrPort("[::ffff:10.0.1.1]:1") },
		},
		"remote_ip does not believe x-forwarded-for": {
			principal: `{"remote_ip":{"address_prefix":"10.0.0.1","prefix_len":32}}`,
			change:    func(x *filter.Exchange) { x.Request.Fields.Append("x-forwarded-for", "192.0.2.1") },
			mismatch: func(x *filter.Exchange) {
				x.Conn.Remote = netip.MustParseAddrPort("10.0.0.2:1")
				x.Request.Fields.Append("x-forwarded-for", "10.0.0.1")
			},
		},
		"destination_ip": {
			permission: `{"destination_ip":{"address_prefix":"10.96.0.10","prefix_len":32}}`,
			mismatch:   func(x *filter.Exchange) { x.Conn.Local = netip.MustParseAddrPort("10.96.0.11:80") },
		},
		"destination_port": {
			permission: `{"destination_port":80}`,
			mismatch:   func(x *filter.Exchange) { x.Conn.Local = netip.MustParseAddrPort("10.96.0.10:81") },
		},
		"requested_server_name": {
			permission: `{"requested_server_name":{"exact":"sni.example"}}`,
			change:     func(x *filter.Exchange) { x.Conn.RequestedServerName = "sni.example" },
		},
		"header": {
			principal: `{"header":{"name":"x-role","string_match":{"exact":"admin"}}}`,
			change:    func(x *filter.Exchange) { x.Request.Fields.Append("x-role", "admin") },
			mismatch: func(x *filter.Exchange) {
				x.Request.Fields.Append("x-role", "guest")
				x.Request.Fields.Append("x-role", "admin")
			},
		},
		":authority": {
			permission: `{"header":{"name":":authority","string_match":{"exact":"SHOP.example","ignore_case":true}}}`,
			mismatch:   func(x *filter.Exchange) { x.Request.Authority = "shop.example:5000" },
		},
		"path without query": {
			permission: `{"url_path":{"path":{"exact":"/a"}}}`,
			change:     func(x *filter.Exchange) { x.Request.Path = "/a?x=/b" },
		},
		"claims": {
			principal: `{"metadata":{"filter":"envoy.filters.http.jwt_authn","path":[{"key":"payload"},{"key":"iss"}],"value":{"string_match":{"exact":"me"}}}}`,
			change:    func(x *filter.Exchange) { x.Metadata.Merge("envoy.filters.http.jwt_authn", jwt) },
		},
		"authenticated": {
			principal: `{"authenticated":{"principal_name":{"exact":"spiffe://td/ns/a/sa/b"}}}`,
			change:    func(x *filter.Exchange) { x.Conn.TLS, x.Conn.PeerURISAN = true, "spiffe://td/ns/a/sa/b" },
			mismatch:  func(x *filter.Exchange) { x.Conn.PeerURISAN = "spiffe://td/ns/a/sa/b" }, // known, but not of this connection's TLS
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.permission == "" {
				c.permission = anybody
			}
			if c.principal == "" {
				c.principal = anybody
			}
			f := compile(t, metrics.NewStats(), `{"rules":`+one("ALLOW", "p", c.permission, c.principal)+`}`)
			x := New("GET", "/")
			if c.change != nil {
				c.change(x)
			}
			if f.Request(x) != filter.Continue {
				t.Error("does not match")
			}
			x = New("GET", "/")
			if c.mismatch != nil {
				c.mismatch(x)
			}
			if f.Request(x) != filter.Stop {
				t.Error("matches what it should not")
			}
		})
	}
}

func TestPerRoute(t *testing.T) {
	stats := metrics.NewStats()
	c := rbac.HTTP(rbac.Options{Stats: stats})
	f := compile(t, stats, `{"rules_stat_prefix":"mine_","rules":`+one("ALLOW", "p", method("GET"), anybody)+`}`)
	route := func(config string) any {
		r, err := c.NewRoute(Parse(t, &httpv3.RBACPerRoute{}, config))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	x := New("PUT", "/")
	Route(x, route(`{"rbac":{"rules":`+one("ALLOW", "put", method("PUT"), anybody)+`}}`))
	if f.Request(x) != filter.Continue || x.Record.Policy != "put" || get(x, "mine_enforced_engine_result") != "allowed" {
		t.Errorf("policy %q, metadata %v", x.Record.Policy, x.Metadata.Struct(ns))
	}
	x = New("PUT", "/")
	Route(x, route(`{"rbac":{"rules_stat_prefix":"other_","rules":{}}}`))
	if f.Request(x) != filter.Stop || get(x, "other_enforced_engine_result") != "denied" {
		t.Errorf("metadata %v", x.Metadata.Struct(ns))
	}
	x = New("PUT", "/")
	Route(x, route(`{}`))
	if f.Request(x) != filter.Continue {
		t.Error("a route without rbac enforces nothing")
	}
	if _, err := c.NewRoute(Parse(t, &httpv3.RBACPerRoute{}, `{"rbac":{"matcher":{"on_no_match":{"keep_matching":true,"matcher":{}}}}}`)); err == nil || !strings.Contains(err.Error(), "rbac.matcher.on_no_match.keep_matching") {
		t.Errorf("error %v", err)
	}
}

// What cannot be honoured is an error, so that the chain is refused.
func TestRefused(t *testing.T) {
	for _, config := range []string{
		`{"matcher":{"on_no_match":{"keep_matching":true,"matcher":{}}}}`,
		`{"shadow_matcher":{"on_no_match":{"keep_matching":true,"matcher":{}}}}`,
		`{"rules":{"policies":{"p":{"permissions":[{"any":true}],"principals":[{"any":true}],"condition":{}}}}}`,
	} {
		if f, err := rbac.HTTP(rbac.Options{Stats: metrics.NewStats()}).New("n", Parse(t, &httpv3.RBAC{}, config)); err == nil {
			t.Errorf("%s compiled to %v", config, f)
		}
	}
	if _, err := rbac.HTTP(rbac.Options{Stats: metrics.NewStats()}).New("n", &networkv3.RBAC{}); err == nil {
		t.Error("another message compiled")
	}
}

func TestNetwork(t *testing.T) {
	stats := metrics.NewStats()
	f := Build(t, rbac.Network(rbac.Options{Stats: stats}), "envoy.filters.network.rbac", Parse(t, &networkv3.RBAC{}, `{"stat_prefix":"tcp.",
		"shadow_rules_stat_prefix":"istio_dry_run_allow_","shadow_rules":{},"rules":`+
		one("DENY", "ns[a]-policy[no 9000]-rule[0]", `{"destination_port":9000}`, `{"filter_state":{"key":"io.istio.peer_principal","string_match":{"prefix":"spiffe://cluster.local/"}}}`)+`}`))
	conn := New("GET", "/").Conn
	if d := f.Connect(conn); d != nil {
		t.Errorf("port 80: %+v", d)
	}
	conn.Local = netip.MustParseAddrPort("10.96.0.10:9000")
	if d := f.Connect(conn); d == nil || d.Details != "rbac_access_denied_matched_policy[ns[a]-policy[no_9000]-rule[0]]" || d.Flag != 0 {
		t.Errorf("port 9000: %+v", d)
	}
	counts(t, stats, map[string]uint64{"tcp.rbac.allowed": 1, "tcp.rbac.denied": 1, "tcp.rbac.istio_dry_run_allow_.shadow_denied": 2})
	if len(Notes(f)) != 1 {
		t.Errorf("notes %q", Notes(f))
	}
	if _, err := rbac.Network(rbac.Options{Stats: stats}).New("n", Parse(t, &networkv3.RBAC{}, `{"stat_prefix":"tcp.","rules":`+one("ALLOW", "p", method("GET"), anybody)+`}`)); err == nil {
		t.Error("header rules compiled for a connection")
	}
}

const action = `{"action":{"name":"a","typed_config":{"@type":"type.googleapis.com/envoy.config.rbac.v3.Action","name":%q,"action":%q}}}`

// byHeader is a tree with an action for each value of header x.
func byHeader(action map[string]string) string {
	var entries []string
	for value, on := range action {
		entries = append(entries, fmt.Sprintf("%q:%s", value, on))
	}
	return `{"matcher_tree":{"input":{"name":"i","typed_config":{"@type":"type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
		"header_name":"x"}},"exact_match_map":{"map":{` + strings.Join(entries, ",") + `}}}}`
}

// What a real Envoy 1.40 answers and writes for the same tree.
func TestMatcherTree(t *testing.T) {
	tree := byHeader(map[string]string{"1": fmt.Sprintf(action, "log it", "LOG"), "2": fmt.Sprintf(action, "deny it", "DENY"), "3": fmt.Sprintf(action, "allow it", "ALLOW")})
	f := compile(t, metrics.NewStats(), `{"rules":{},"matcher":`+tree+`,"shadow_matcher":`+tree+`}`)
	for _, c := range []struct {
		value, policy, details, hint string
	}{
		{"1", "log it", "", "true"},
		{"2", "deny it", "rbac_access_denied_matched_policy[deny_it]", "false"},
		{"3", "allow it", "", "false"},
		{"4", "", "rbac_access_denied_matched_policy[none]", ""},
	} {
		x := New("GET", "/", "x: "+c.value)
		passed := f.Request(x) == filter.Continue
		if details := x.TakeReply().Details; passed != (c.details == "") || details != c.details {
			t.Errorf("%s: passed %v, details %q", c.value, passed, details)
		}
		result := map[bool]string{true: "allowed", false: "denied"}[passed]
		if get(x, "enforced_effective_policy_id") != c.policy || get(x, "enforced_engine_result") != result ||
			get(x, "shadow_effective_policy_id") != c.policy || get(x, "shadow_engine_result") != result {
			t.Errorf("%s: metadata %v", c.value, x.Metadata.Struct(ns))
		}
		hint := ""
		if v := x.Metadata.Get("envoy.common", "access_log_hint"); v != nil {
			hint = fmt.Sprint(v.GetBoolValue())
		}
		if hint != c.hint {
			t.Errorf("%s: hint %q, want %q", c.value, hint, c.hint)
		}
	}
	if notes := Notes(f); len(notes) != 1 || !strings.Contains(notes[0], "rules") {
		t.Errorf("notes %q: rules beside a matcher have no effect", notes)
	}
}

// Counters per policy have Envoy's names, and only those that were counted are there.
func TestPerRuleStats(t *testing.T) {
	stats := metrics.NewStats()
	f := compile(t, stats, `{"track_per_rule_stats":true,"rules_stat_prefix":"r_","rules":`+one("ALLOW", "ns[a]-policy[b c.d]-rule[0]", method("GET"), anybody)+
		`,"shadow_rules":`+one("DENY", "sh.p", method("GET"), anybody)+`}`)
	f.Request(New("GET", "/"))
	f.Request(New("GET", "/"))
	f.Request(New("PUT", "/"))
	counts(t, stats, map[string]uint64{
		"http.rbac.r_.allowed": 2, "http.rbac.r_.denied": 1, "http.rbac.shadow_denied": 2, "http.rbac.shadow_allowed": 1,
		"http.rbac.r_.policy.ns[a]-policy[b c.d]-rule[0].allowed": 2, "http.rbac.policy.sh.p.shadow_denied": 2,
	})
	if _, ok := stats.Lookup("http.rbac.r_.policy.ns[a]-policy[b c.d]-rule[0].denied"); ok {
		t.Error("what never happened is counted")
	}
	// A route may turn it off, or on.
	x := New("GET", "/")
	r, err := rbac.HTTP(rbac.Options{Stats: stats}).NewRoute(Parse(t, &httpv3.RBACPerRoute{}, `{"rbac":{"rules":`+one("ALLOW", "route", method("GET"), anybody)+`}}`))
	if err != nil {
		t.Fatal(err)
	}
	Route(x, r)
	f.Request(x)
	if _, ok := stats.Lookup("http.rbac.r_.policy.route.allowed"); ok {
		t.Error("the route did not ask for counters per policy")
	}
	counts(t, stats, map[string]uint64{"http.rbac.r_.allowed": 3})
}

func TestAudit(t *testing.T) {
	audited := func(rules, condition string) string {
		return strings.TrimSuffix(rules, "}") + `,"audit_logging_options":{"audit_condition":"` + condition + `","logger_configs":[{"audit_logger":
			{"name":"s","typed_config":{"@type":"type.googleapis.com/envoy.extensions.rbac.audit_loggers.stream.v3.StdoutAuditLog"}}}]}}`
	}
	var out strings.Builder
	o := rbac.Options{Stats: metrics.NewStats(), Audit: &out}
	f := Build(t, rbac.HTTP(o), "my-filter", Parse(t, &httpv3.RBAC{}, `{"rules":`+audited(one("ALLOW", "get", method("GET"), anybody), "ON_DENY")+
		`,"shadow_rules":`+audited(one("DENY", "dry", method("GET"), anybody), "ON_DENY_AND_ALLOW")+`}`))
	f.Request(New("GET", "/a?token=secret"))
	f.Request(New("PUT", "/b"))
	network := Build(t, rbac.Network(o), "tcp-filter", Parse(t, &networkv3.RBAC{}, `{"stat_prefix":"tcp.","rules":`+audited(one("ALLOW", "p", `{"destination_port":1}`, anybody), "ON_DENY")+`}`))
	network.Connect(New("GET", "/").Conn)

	var got []string
	for line := range strings.Lines(out.String()) {
		var l struct {
			Line map[string]any `json:"rbac_audit_log"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(l.Line["policy_name"], " ", l.Line["matched_rule"], " ", l.Line["authorized"], " shadow ", l.Line["shadow"], " ", l.Line["principal"], " ", l.Line["rpc_method"]))
	}
	want := []string{
		"my-filter dry false shadow true " + Principal + " /a",
		"my-filter  true shadow true " + Principal + " /b",
		"my-filter  false shadow <nil> " + Principal + " /b",
		"tcp-filter  false shadow <nil> " + Principal + " <nil>",
	}
	if !slices.Equal(got, want) {
		t.Errorf("lines\n%s", strings.Join(got, "\n"))
	}
}

func TestDelayDeny(t *testing.T) {
	f := Build(t, rbac.Network(rbac.Options{Stats: metrics.NewStats()}), "n", Parse(t, &networkv3.RBAC{}, `{"stat_prefix":"tcp.","delay_deny":"0.5s","rules":{}}`))
	if d := f.Connect(New("GET", "/").Conn); d == nil || d.Delay != 500*time.Millisecond {
		t.Errorf("%+v", d)
	}
}

// TestIstiod runs the filters that a real istiod sent for: "only GET is allowed" at a Service with HTTP and TCP ports.
func TestIstiod(t *testing.T) {
	text, err := os.ReadFile("testdata/istiod.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Chain  string
		Config json.RawMessage
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, e := range list {
		var a anypb.Any
		if err := protojson.Unmarshal(e.Config, &a); err != nil {
			t.Fatal(err)
		}
		m, err := a.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *httpv3.RBAC:
			seen["http"]++
			f := Build(t, rbac.HTTP(rbac.Options{Stats: metrics.NewStats()}), "envoy.filters.http.rbac", m)
			if f.Request(New("GET", "/hello")) != filter.Continue || f.Request(New("POST", "/hello")) != filter.Stop {
				t.Errorf("%s: GET must pass, POST not", e.Chain)
			}
		case *networkv3.RBAC:
			seen["tcp"]++
			f := Build(t, rbac.Network(rbac.Options{Stats: metrics.NewStats()}), "envoy.filters.network.rbac", m)
			if d := f.Connect(New("GET", "/").Conn); d == nil || d.Details != "rbac_access_denied_matched_policy[none]" {
				t.Errorf("%s: an ALLOW policy about HTTP must deny TCP: %+v", e.Chain, d)
			}
		}
	}
	if seen["http"] == 0 || seen["tcp"] == 0 {
		t.Errorf("the fixture holds %v", seen)
	}
}
