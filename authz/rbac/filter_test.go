package rbac

import (
	"strings"
	"testing"
	"time"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/authz"
)

func parse[M proto.Message](t testing.TB, m M, json string) M {
	t.Helper()
	if err := protojson.Unmarshal([]byte(json), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// istiod sends the prefix even where there are no shadow rules.
func TestFromHTTP(t *testing.T) {
	f, err := FromHTTP(parse(t, &httpv3.RBAC{}, `{
		"rules": {"policies": {"ns[default]-policy[allow-get]-rule[0]": {
			"permissions": [{"and_rules": {"rules": [{"or_rules": {"rules": [{"header": {"name": ":method", "string_match": {"exact": "GET"}}}]}}]}}],
			"principals": [{"and_ids": {"ids": [{"any": true}]}}]}}},
		"shadow_rules_stat_prefix": "istio_dry_run_allow_"}`))
	if err != nil {
		t.Fatal(err)
	}
	if f.Shadow != nil {
		t.Error("there is a shadow set without shadow rules")
	}
	d := f.Enforced.Decide(&authz.Request{HTTP: true, Method: "GET"})
	want := authz.Decision{Allowed: true, Policy: "ns[default]-policy[allow-get]-rule[0]", Source: authz.Source{Namespace: "default", Name: "allow-get"}}
	if d != want || Result(d) != "allowed" {
		t.Errorf("GET: %+v", d)
	}
	if d := f.Enforced.Decide(&authz.Request{HTTP: true, Method: "PUT"}); d.Allowed || Result(d) != "denied" {
		t.Errorf("PUT: %+v", d)
	}
}

// A CUSTOM policy is a shadow set whose result ext_authz waits for.
func TestShadow(t *testing.T) {
	f, err := FromHTTP(parse(t, &httpv3.RBAC{}, `{
		"shadow_rules": {"action": "DENY", "policies": {"istio-ext-authz-opa-ns[a]-policy[b]-rule[1]": {
			"permissions": [{"url_path": {"path": {"prefix": "/checked"}}}], "principals": [{"any": true}]}}},
		"shadow_rules_stat_prefix": "istio_ext_authz_", "rules_stat_prefix": "r_", "track_per_rule_stats": true}`))
	if err != nil {
		t.Fatal(err)
	}
	if f.Enforced != nil || !f.PerRuleStats || f.RulesStatPrefix != "r_" || f.ShadowRulesStatPrefix != "istio_ext_authz_" {
		t.Errorf("%+v", f)
	}
	if want := (Keys{"istio_ext_authz_shadow_effective_policy_id", "istio_ext_authz_shadow_engine_result"}); f.ShadowKeys != want {
		t.Errorf("shadow keys %+v", f.ShadowKeys)
	}
	if want := (Keys{"r_enforced_effective_policy_id", "r_enforced_engine_result"}); f.EnforcedKeys != want {
		t.Errorf("enforced keys %+v", f.EnforcedKeys)
	}
	d := f.Shadow.Decide(&authz.Request{HTTP: true, Path: "/checked/x"})
	if d.Policy != "istio-ext-authz-opa-ns[a]-policy[b]-rule[1]" || d.Source.Provider != "opa" || Result(d) != "denied" {
		t.Errorf("%+v", d)
	}
	if d := f.Enforced.Decide(&authz.Request{HTTP: true, Path: "/checked/x"}); !d.Allowed {
		t.Error("shadow rules were enforced")
	}
}

func TestPerRoute(t *testing.T) {
	filter, err := FromHTTP(parse(t, &httpv3.RBAC{}, `{"rules": {}, "rules_stat_prefix": "r_", "shadow_rules_stat_prefix": "s_"}`))
	if err != nil {
		t.Fatal(err)
	}
	off, err := FromHTTPPerRoute(filter, &httpv3.RBACPerRoute{})
	if err != nil {
		t.Fatal(err)
	}
	if off.Enforced != nil || off.Shadow != nil {
		t.Error("an override without rbac must enforce nothing")
	}
	own, err := FromHTTPPerRoute(filter, parse(t, &httpv3.RBACPerRoute{}, `{"rbac": {"rules": {"action": "DENY"}, "rules_stat_prefix": "own_"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if own.Enforced.Action() != authz.Deny || own.RulesStatPrefix != "own_" || own.ShadowKeys.Result != "s_shadow_engine_result" {
		t.Errorf("%+v", own)
	}
	const ports = `{"rbac": {"matcher": {"matcher_tree": {"input": {"name": "i", "typed_config": {
		"@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.SourcePortInput"}}, "exact_match_map": {"map": {"80": {"matcher": {}}}}}}}}`
	want := "rbac.matcher.matcher_tree.input: not supported (extension type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.SourcePortInput)"
	if _, err := FromHTTPPerRoute(filter, parse(t, &httpv3.RBACPerRoute{}, ports)); err == nil || err.Error() != want {
		t.Error(err)
	}
}

func TestFromNetwork(t *testing.T) {
	f, err := FromNetwork(parse(t, &networkv3.RBAC{}, `{"rules": {}, "stat_prefix": "tcp.", "shadow_rules_stat_prefix": "istio_dry_run_allow_", "delay_deny": "1.5s"}`))
	if err != nil {
		t.Fatal(err)
	}
	d := f.Enforced.Decide(&authz.Request{})
	if d.Allowed || d.Details != "rbac_access_denied_matched_policy[none]" {
		t.Errorf("empty rules: %+v", d)
	}
	if f.StatPrefix != "tcp." || f.DelayDeny != 1500*time.Millisecond || f.ShadowKeys.Policy != "istio_dry_run_allow_shadow_effective_policy_id" {
		t.Errorf("%+v", f)
	}
	if f, err := FromNetwork(parse(t, &networkv3.RBAC{}, `{"stat_prefix": "tcp."}`)); err != nil || !f.Enforced.Decide(&authz.Request{}).Allowed {
		t.Errorf("absent rules: %v", err)
	}
}

func TestRefused(t *testing.T) {
	const anyone = `"principals": [{"any": true}]`
	const header = `{"policies": {"p": {"permissions": [{"not_rule": {"header": {"name": "a"}}}], ` + anyone + `}}}`
	for name, err := range map[string]error{
		`enforcement_type: not supported (CONTINUOUS; a connection is decided once)`:                                 errOf(FromNetwork(parse(t, &networkv3.RBAC{}, `{"stat_prefix": "x", "enforcement_type": "CONTINUOUS"}`))),
		`rules: policy "p": permissions[0].not_rule.header: not supported (a network filter sees no headers)`:        errOf(FromNetwork(parse(t, &networkv3.RBAC{}, `{"stat_prefix": "x", "rules": `+header+`}`))),
		`shadow_rules: policy "p": permissions[0].not_rule.header: not supported (a network filter sees no headers)`: errOf(FromNetwork(parse(t, &networkv3.RBAC{}, `{"stat_prefix": "x", "shadow_rules": `+header+`}`))),
	} {
		if err == nil || err.Error() != name {
			t.Errorf("%v, want %s", err, name)
		}
	}
	if _, err := FromHTTP(parse(t, &httpv3.RBAC{}, `{"rules": `+header+`}`)); err != nil {
		t.Errorf("the HTTP filter takes header rules: %v", err)
	}
}

func errOf(f *Filter, err error) error {
	if f != nil {
		return nil // an error must not come with a filter that could be used by mistake
	}
	return err
}

// A field of a newer API may be a condition. It is found however deep it is, also inside extensions.
func TestUnknownFields(t *testing.T) {
	rules := parse(t, &rbacv3.RBAC{}, `{"policies": {"p": {"permissions": [{"any": true}], "principals": [{"and_ids": {"ids": [
		{"filter_state": {"key": "k", "string_match": {"exact": "x"}}}]}}]}}}`)
	if _, err := Compile(rules); err != nil {
		t.Fatal(err)
	}
	match := rules.Policies["p"].Principals[0].GetAndIds().Ids[0].GetFilterState().GetStringMatch()
	match.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 77, protowire.VarintType), 1))
	want := `policies["p"].principals[0].and_ids.ids[0].filter_state.string_match: field 77 of envoy.type.matcher.v3.StringMatcher is not known to this build`
	if _, err := Compile(rules); err == nil || err.Error() != want {
		t.Error(err)
	}

	rules = parse(t, &rbacv3.RBAC{}, `{"policies": {"p": {"principals": [{"any": true}], "permissions": [{"uri_template": {"name": "t", "typed_config": {
		"@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig", "path_template": "/a"}}}]}}}`)
	config := rules.Policies["p"].Permissions[0].GetUriTemplate().GetTypedConfig()
	config.Value = protowire.AppendVarint(protowire.AppendTag(config.Value, 9, protowire.VarintType), 1)
	if _, err := Compile(rules); err == nil || !strings.Contains(err.Error(), `policy "p": permissions[0].uri_template: field 9 of`) {
		t.Error(err)
	}
}

func TestAbsentRules(t *testing.T) {
	set, err := Compile(nil)
	if set != nil || err != nil || !set.Decide(&authz.Request{}).Allowed {
		t.Errorf("nil rules: %v, %v", set, err)
	}
	for name, f := range map[string]func() (*Filter, error){
		"http":    func() (*Filter, error) { return FromHTTP(&httpv3.RBAC{}) },
		"no http": func() (*Filter, error) { return FromHTTP(nil) },
		"network": func() (*Filter, error) { return FromNetwork(nil) },
	} {
		if f, err := f(); err != nil || f.Enforced != nil || f.Shadow != nil {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}
