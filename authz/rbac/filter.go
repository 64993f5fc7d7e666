package rbac

import (
	"fmt"
	"time"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"

	"github.com/gowaypoint/gowaypoint/authz"
)

// Namespaces and keys of the dynamic metadata that Envoy's RBAC filters write. Access logs, trace tags and the
// condition of ext_authz read them.
const (
	HTTPNamespace    = "envoy.filters.http.rbac"
	NetworkNamespace = "envoy.filters.network.rbac"

	// An enforced LOG set writes whether a policy matched, as a boolean, under this key.
	LogNamespace = "envoy.common"
	LogKey       = "access_log_hint"
)

// Filter is an RBAC filter: what it enforces, what it only evaluates, and where it reports.
type Filter struct {
	// Enforced decides; nil enforces nothing.
	Enforced *authz.PolicySet
	// Shadow is evaluated before Enforced and only reported; nil is not evaluated. Its result has to be written as
	// dynamic metadata even so, because ext_authz is made conditional on it.
	Shadow *authz.PolicySet

	// EnforcedKeys and ShadowKeys say under which metadata keys to write a decision. The network filter writes only
	// the shadow one.
	EnforcedKeys, ShadowKeys Keys

	// StatPrefix is set on network filters, such as "tcp."; the other two prefixes stand before the counters of
	// enforced and shadow rules.
	StatPrefix, RulesStatPrefix, ShadowRulesStatPrefix string
	// PerRuleStats asks for counters per policy.
	PerRuleStats bool
	// DelayDeny is how long a network filter holds a denied connection before closing it. 0 closes at once.
	DelayDeny time.Duration
}

// Keys are the two keys for one decision, with their prefix.
type Keys struct {
	Policy string // holds the name of the policy that matched; not written when none did
	Result string // holds Result of the decision
}

// Result is the string that Envoy writes for a verdict.
func Result(d authz.Decision) string {
	if d.Allowed {
		return "allowed"
	}
	return "denied"
}

func (f *Filter) setPrefixes(rules, shadow string) {
	f.RulesStatPrefix, f.ShadowRulesStatPrefix = rules, shadow
	f.EnforcedKeys = Keys{rules + "enforced_effective_policy_id", rules + "enforced_engine_result"}
	f.ShadowKeys = Keys{shadow + "shadow_effective_policy_id", shadow + "shadow_engine_result"}
}

// FromHTTP compiles an HTTP filter. An error names the field; then the caller must refuse all requests of the chain.
func FromHTTP(config *httpv3.RBAC) (*Filter, error) {
	if config == nil {
		return &Filter{}, nil
	}
	if err := validate(config); err != nil {
		return nil, err
	}
	if err := refuseMatchers(config); err != nil {
		return nil, err
	}
	f := &Filter{PerRuleStats: config.GetTrackPerRuleStats()}
	f.setPrefixes(config.GetRulesStatPrefix(), config.GetShadowRulesStatPrefix())
	if err := f.compile(config.GetRules(), config.GetShadowRules(), http); err != nil {
		return nil, err
	}
	return f, nil
}

// FromHTTPPerRoute compiles what a route, virtual host or weighted cluster sets in place of the filter's own
// configuration. It replaces both rule sets: one without an rbac enforces nothing on that route. The two prefixes
// fall back to the filter's.
func FromHTTPPerRoute(filter *Filter, override *httpv3.RBACPerRoute) (*Filter, error) {
	if err := validate(override); err != nil {
		return nil, err
	}
	f, err := FromHTTP(override.GetRbac())
	if err != nil {
		return nil, at("rbac", err)
	}
	rules, shadow := f.RulesStatPrefix, f.ShadowRulesStatPrefix
	if rules == "" {
		rules = filter.RulesStatPrefix
	}
	if shadow == "" {
		shadow = filter.ShadowRulesStatPrefix
	}
	f.setPrefixes(rules, shadow)
	return f, nil
}

// FromNetwork compiles a network filter. Decide on a Request with HTTP false. An error names the field; then the
// caller must refuse all connections of the chain.
//
// Envoy decides at the client's first byte. The rules do not depend on it, and the caller should decide before it
// dials the backend, so that a server that speaks first is not heard by a client that may not talk to it.
func FromNetwork(config *networkv3.RBAC) (*Filter, error) {
	if config == nil {
		return &Filter{}, nil
	}
	if err := validate(config); err != nil {
		return nil, err
	}
	if err := refuseMatchers(config); err != nil {
		return nil, err
	}
	if config.GetEnforcementType() != networkv3.RBAC_ONE_TIME_ON_FIRST_BYTE {
		return nil, notSupported("enforcement_type", fmt.Sprintf("%v; a connection is decided once", config.GetEnforcementType()))
	}
	delay := config.GetDelayDeny()
	if delay != nil && (delay.CheckValid() != nil || delay.AsDuration() < 0) {
		return nil, at("delay_deny", fmt.Errorf("%v is not a time to wait", delay))
	}
	f := &Filter{StatPrefix: config.GetStatPrefix(), DelayDeny: delay.AsDuration()}
	f.setPrefixes("", config.GetShadowRulesStatPrefix())
	if err := f.compile(config.GetRules(), config.GetShadowRules(), network); err != nil {
		return nil, err
	}
	return f, nil
}

// compile fills in the rule sets. In both filters a matcher tree takes the place of the rules.
func (f *Filter) compile(rules, shadow *rbacv3.RBAC, l layer) (err error) {
	if rules != nil {
		if f.Enforced, err = compile(rules, l); err != nil {
			return at("rules", err)
		}
	}
	if shadow != nil {
		if f.Shadow, err = compile(shadow, l); err != nil {
			return at("shadow_rules", err)
		}
	}
	return nil
}

// refuseMatchers refuses the matcher trees that take the place of rules: leaving one out would leave the rules that it
// was meant to replace, or none.
func refuseMatchers(config interface {
	GetMatcher() *xdsmatcherv3.Matcher
	GetShadowMatcher() *xdsmatcherv3.Matcher
}) error {
	if config.GetMatcher() != nil {
		return notSupported("matcher", "use rules")
	}
	if config.GetShadowMatcher() != nil {
		return notSupported("shadow_matcher", "use shadow_rules")
	}
	return nil
}
