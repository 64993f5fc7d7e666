package route

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"

	"github.com/cespare/xxhash/v2"
)

// one compiles a configuration with one route, whose action is given in YAML, and returns the route.
func one(t testing.TB, action string) *Route {
	t.Helper()
	cfg, notes, err := compileYAML(t, `{name: rc, virtual_hosts: [{name: v, domains: ["*"], routes: [{name: r, match: {prefix: /}, `+action+`}]}]}`)
	if err != nil || len(notes) > 0 {
		t.Fatalf("%s: %v, notes %q", action, err, notes)
	}
	return cfg.VirtualHosts[0].Routes[0]
}

func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		action string
		want   Forward
	}{
		{`route: {cluster: c}`, Forward{Timeout: 15 * time.Second}},
		{`route: {cluster: c, timeout: 0s, max_grpc_timeout: 0s}`, Forward{GRPCTimeout: true}},
		{`route: {cluster: c, timeout: 5s, max_grpc_timeout: 4s, idle_timeout: 3s}`,
			Forward{Timeout: 5 * time.Second, GRPCTimeout: true, MaxGRPCTimeout: 4 * time.Second, IdleTimeout: 3 * time.Second}},
		{`route: {cluster: c, timeout: 1s, idle_timeout: 0s}`, Forward{Timeout: time.Second, IdleTimeout: -1}},
	} {
		f := one(t, c.action).Forward
		got := Forward{Timeout: f.Timeout, IdleTimeout: f.IdleTimeout, GRPCTimeout: f.GRPCTimeout, MaxGRPCTimeout: f.MaxGRPCTimeout}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.action, got, c.want)
		}
	}
}

func TestRetry(t *testing.T) {
	if r := one(t, `route: {cluster: c}`).Forward.Retry; r != nil {
		t.Errorf("a route without a policy has %+v", r)
	}
	// What istiod sends to every waypoint route.
	istio := one(t, `route: {cluster: c, retry_policy: {
		retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", num_retries: 2,
		retry_host_predicate: [{name: envoy.retry_host_predicates.previous_hosts, typed_config:
			{"@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}],
		host_selection_retry_max_attempts: "5"}}`).Forward.Retry
	want := &Retry{
		On:  RetryConnectFailure | RetryRefusedStream | RetryGRPCUnavailable | RetryGRPCCancelled | RetryRetriableStatusCodes,
		Max: 2, SkipPrevious: true, HostAttempts: 5, BackoffBase: 25 * time.Millisecond, BackoffMax: 250 * time.Millisecond,
	}
	if !reflect.DeepEqual(istio, want) {
		t.Errorf("istiod's policy:\n got %+v\nwant %+v", istio, want)
	}
	full := one(t, `route: {cluster: c, retry_policy: {retry_on: "5xx, retriable-headers", per_try_timeout: 2s, per_try_idle_timeout: 1s,
		retriable_status_codes: [418, 503], retry_back_off: {base_interval: 0.0000001s, max_interval: 7s},
		retriable_headers: [{name: x-retry, string_match: {exact: "1"}}, {name: ":status", string_match: {prefix: "41"}}]}}`).Forward.Retry
	headers := full.RetriableHeaders
	full.RetriableHeaders = nil
	want = &Retry{On: Retry5xx | RetryRetriableHeaders, Max: 1, HostAttempts: 1, PerTryTimeout: 2 * time.Second, PerTryIdleTimeout: time.Second,
		Statuses: []int{418, 503}, BackoffBase: time.Millisecond, BackoffMax: 7 * time.Second}
	if !reflect.DeepEqual(full, want) {
		t.Errorf("full policy:\n got %+v\nwant %+v", full, want)
	}
	h := &message.Head{Status: 418}
	if len(headers) != 2 || headers[0].Match(h) || !headers[1].Match(h) {
		t.Errorf("retriable headers do not match: %+v", headers)
	}
}

func TestRetryTokens(t *testing.T) {
	all := RetryOn(0)
	for _, token := range []string{"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited",
		"retriable-4xx", "refused-stream", "retriable-status-codes", "retriable-headers", "http3-post-connect-failure",
		"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"} {
		on := ParseRetryOn(token)
		if on == 0 || on&all != 0 || on&(on-1) != 0 {
			t.Errorf("%q = %b, others %b", token, on, all)
		}
		all |= on
	}
	if got := ParseRetryOn(" reset ,nonsense,,5XX,unavailable"); got != RetryReset|RetryGRPCUnavailable {
		t.Errorf("tokens with blanks and nonsense = %b", got)
	}
}

func TestPoliciesAreInherited(t *testing.T) {
	cfg, notes, err := compileYAML(t, `
name: rc
request_mirror_policies: [{cluster: of-config}]
virtual_hosts:
- name: v
  domains: ["*"]
  retry_policy: {retry_on: reset, num_retries: 7}
  routes:
  - {name: inherits, match: {prefix: /i}, route: {cluster: c}}
  - {name: own, match: {prefix: /o}, decorator: {operation: op, propagate: false}, route: {cluster: c, retry_policy: {}, request_mirror_policies: [
      {cluster: m, disable_shadow_host_suffix_append: true, trace_sampled: false, runtime_fraction: {default_value: {numerator: 5, denominator: TEN_THOUSAND}}}]}}
`)
	if err != nil || len(notes) > 0 {
		t.Fatal(err, notes)
	}
	inherits, own := cfg.VirtualHosts[0].Routes[0].Forward, cfg.VirtualHosts[0].Routes[1].Forward
	if inherits.Retry == nil || inherits.Retry.Max != 7 || own.Retry.On != 0 {
		t.Errorf("retry policies: inherited %+v, own %+v", inherits.Retry, own.Retry)
	}
	if got := fmt.Sprintf("%+v", inherits.Mirrors); got != "[{Cluster:of-config Numerator:100 Denominator:100 HostSuffix:true TraceSampled:<nil>}]" {
		t.Errorf("inherited mirrors %s", got)
	}
	m := own.Mirrors[0]
	if m.Cluster != "m" || m.Denominator != 10_000 || m.HostSuffix || m.TraceSampled == nil || *m.TraceSampled {
		t.Errorf("own mirror %+v", m)
	}
	if !m.Picks(20_004) || m.Picks(20_005) {
		t.Error("a mirror for 5 in 10,000 must copy 4 and not 5")
	}
	if r := cfg.VirtualHosts[0].Routes[1]; r.Operation != "op" || r.PropagateOperation {
		t.Errorf("decorator: %q, %t", r.Operation, r.PropagateOperation)
	}
}

func TestChooseFollowsWeights(t *testing.T) {
	f := one(t, `route: {weighted_clusters: {clusters: [{name: zero, weight: 0}, {name: a, weight: 1}, {name: b, weight: 3}, {name: also-zero, weight: 0}]}}`).Forward
	count := map[string]int{}
	for i := range uint64(400) {
		count[f.Choose(i).Name]++
	}
	if want := map[string]int{"a": 100, "b": 300}; !reflect.DeepEqual(count, want) {
		t.Errorf("chosen %v, want %v", count, want)
	}
	if got := f.Choose(math.MaxUint64); got == nil || got.Weight == 0 {
		t.Errorf("the greatest number chose %+v", got)
	}
}

func TestHash(t *testing.T) {
	h := &message.Head{Path: "/?user=alice&user=bob", Authority: "h"}
	h.Fields.Append("x-user", "alice")
	h.Fields.Append("x-many", "b")
	h.Fields.Append("x-many", "a")
	h.Fields.Append("cookie", "sid=s1; other=2")
	source := netip.MustParseAddr("::ffff:10.0.0.1")
	alice, addr := xxhash.Sum64String("alice"), xxhash.Sum64String("10.0.0.1")
	seeded := xxhash.NewWithSeed(xxhash.Sum64String("a"))
	_, _ = seeded.WriteString("b")
	turn := func(v uint64) uint64 { return v<<1 | v>>63 }
	for policies, want := range map[string]uint64{
		`{header: {header_name: X-User}}`: alice,
		`{header: {header_name: x-many}}`: seeded.Sum64(),
		`{header: {header_name: x-user, regex_rewrite: {pattern: {regex: "^(a).*"}, substitution: '\1'}}}`: xxhash.Sum64String("a"),
		`{query_parameter: {name: user}}`:                                                             alice,
		`{connection_properties: {source_ip: true}}`:                                                  addr,
		`{cookie: {name: sid}}`:                                                                       xxhash.Sum64String("s1"),
		`{header: {header_name: x-none}}, {header: {header_name: x-user}}`:                            alice,
		`{header: {header_name: x-user}}, {connection_properties: {source_ip: true}}`:                 turn(alice) ^ addr,
		`{header: {header_name: x-user}, terminal: true}, {connection_properties: {source_ip: true}}`: alice,
		`{header: {header_name: x-none}, terminal: true}, {connection_properties: {source_ip: true}}`: addr,
		`{connection_properties: {source_ip: false}}, {query_parameter: {name: none}}, {cookie: {name: none, ttl: 0s}}, {header: {header_name: x-user}}`: alice,
	} {
		f := one(t, "route: {cluster: c, hash_policy: ["+policies+"]}").Forward
		if got, ok := f.Hash(h, source); !ok || got != want {
			t.Errorf("%s: %x %t, want %x", policies, got, ok, want)
		}
	}
	f := one(t, `route: {cluster: c, hash_policy: [{header: {header_name: x-none}}]}`).Forward
	if got, ok := f.Hash(h, source); ok {
		t.Errorf("a hash %x of nothing", got)
	}
}

func TestHashMakesCookie(t *testing.T) {
	f := one(t, `route: {cluster: c, hash_policy: [{cookie: {name: sid, ttl: 3600s, path: /p, attributes: [{name: SameSite, value: Lax}, {name: Secure}]}}]}`).Forward
	value := CookieValue(netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2"))
	if want := fmt.Sprintf("%016x", xxhash.Sum64String("10.0.0.1:110.0.0.2:2")); value != want {
		t.Errorf("value %q, want %q", value, want)
	}
	made := ""
	hash, ok := f.HashWithCookie(&message.Head{}, netip.Addr{}, func(p *HashPolicy) string {
		made = p.SetCookie(value)
		return value
	})
	if !ok || hash != xxhash.Sum64String(value) {
		t.Errorf("hash %x %t", hash, ok)
	}
	if want := `sid="` + value + `"; Max-Age=3600; Path=/p; SameSite=Lax; Secure; HttpOnly`; made != want {
		t.Errorf("cookie %s\nwant   %s", made, want)
	}
	// The next request of that client hashes alike, and no other cookie is made.
	var next message.Head
	next.Fields.Append("cookie", `sid="`+value+`"`)
	again, ok := f.HashWithCookie(&next, netip.Addr{}, func(*HashPolicy) string { t.Error("made twice"); return "" })
	if !ok || again != hash {
		t.Errorf("hash %x %t after %x", again, ok, hash)
	}
}

func TestAction(t *testing.T) {
	f := one(t, `route: {cluster: c, cluster_not_found_response_code: INTERNAL_SERVER_ERROR, auto_host_rewrite: true,
		upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}, {upgrade_type: WebSocket, enabled: false}]}`).Forward
	if f.NotFoundStatus != 500 || !f.Connect || !f.AutoHost || !reflect.DeepEqual(f.Upgrades, map[string]bool{"connect": true, "websocket": false}) {
		t.Errorf("%+v", f)
	}
	if f := one(t, `route: {cluster: c}`).Forward; f.NotFoundStatus != 503 || f.Connect || f.TotalWeight != 1 {
		t.Errorf("%+v", f)
	}
	if d := one(t, `direct_response: {status: 200, body: {filename: testdata/errors.txt}}`).Direct; len(d.Body) < 100 {
		t.Errorf("body from a file: %q", d.Body)
	}
	t.Setenv("ROUTE_TEST_BODY", "from the environment")
	if d := one(t, `direct_response: {status: 200, body: {environment_variable: ROUTE_TEST_BODY}}`).Direct; d.Body != "from the environment" {
		t.Errorf("body from the environment: %q", d.Body)
	}
}

func TestSuppressedOriginals(t *testing.T) {
	rc := parseYAML(t, `{name: rc, virtual_hosts: [{name: v, domains: ["*"], routes: [{name: r, match: {prefix: /a}, route: {cluster: c, prefix_rewrite: /b, host_rewrite_literal: x}}]}]}`)
	cfg, _, err := Compile(rc, Options{SuppressEnvoyHeaders: true})
	if err != nil {
		t.Fatal(err)
	}
	h := &message.Head{Method: "GET", Scheme: "http", Authority: "h", Path: "/a"}
	cfg.Match(&Request{Head: h}).ApplyRequest(h, nil, nil)
	if h.Path != "/b" || h.Authority != "x" || h.Fields.Len() != 0 {
		t.Errorf("%+v", h)
	}
}
