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
	// EnforcedPolicies and ShadowPolicies are the names that a decision may have, sorted, each once.
	EnforcedPolicies, ShadowPolicies []string

	// EnforcedAudit and ShadowAudit say which decisions to write down; nil: none.
	EnforcedAudit, ShadowAudit *Audit

	// StatPrefix is set on network filters, such as "tcp."; the other two prefixes stand before the counters of
	// enforced and shadow rules.
	StatPrefix, RulesStatPrefix, ShadowRulesStatPrefix string
	// PerRuleStats asks for counters per policy.
	PerRuleStats bool
	// DelayDeny is how long a network filter holds a denied connection before closing it. 0 closes at once.
	DelayDeny time.Duration

	// Notes are about what is configured and has no effect, each with its field. Nothing that could let a request pass is.
	Notes []string

	// hints: a decision of Enforced tells whether to log the request.
	hintAlways, hintOnMatch bool
}

// LogHint returns what an enforced decision says of the request's access log (LogNamespace, LogKey), and whether it says
// anything: rules with action LOG always do, a matcher tree that has a LOG action somewhere does when any of its actions is
// reached.
func (f *Filter) LogHint(d authz.Decision) (hint, ok bool) {
	return d.Action == authz.Log && d.Policy != "", f.hintAlways || f.hintOnMatch && d.Policy != ""
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
	f := &Filter{PerRuleStats: config.GetTrackPerRuleStats()}
	f.setPrefixes(config.GetRulesStatPrefix(), config.GetShadowRulesStatPrefix())
	if err := f.compile(ofHTTP(config), http); err != nil {
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
	if config.GetEnforcementType() != networkv3.RBAC_ONE_TIME_ON_FIRST_BYTE {
		return nil, notSupported("enforcement_type", fmt.Sprintf("%v; a connection is decided once", config.GetEnforcementType()))
	}
	delay := config.GetDelayDeny()
	if delay != nil && (delay.CheckValid() != nil || delay.AsDuration() < 0) {
		return nil, at("delay_deny", fmt.Errorf("%v is not a time to wait", delay))
	}
	f := &Filter{StatPrefix: config.GetStatPrefix(), DelayDeny: delay.AsDuration()}
	f.setPrefixes("", config.GetShadowRulesStatPrefix())
	if err := f.compile(ofNetwork(config), network); err != nil {
		return nil, err
	}
	return f, nil
}

// sources are what the sets of a filter are made of.
type sources struct {
	rules, shadowRules     *rbacv3.RBAC
	matcher, shadowMatcher *xdsmatcherv3.Matcher
}

func ofHTTP(c *httpv3.RBAC) sources {
	return sources{c.GetRules(), c.GetShadowRules(), c.GetMatcher(), c.GetShadowMatcher()}
}

func ofNetwork(c *networkv3.RBAC) sources {
	return sources{c.GetRules(), c.GetShadowRules(), c.GetMatcher(), c.GetShadowMatcher()}
}

// compile fills in the rule sets.
func (f *Filter) compile(s sources, l layer) error {
	enforced, err := f.translate("", s.rules, s.matcher, l)
	if err != nil {
		return err
	}
	shadow, err := f.translate("shadow_", s.shadowRules, s.shadowMatcher, l)
	if err != nil {
		return err
	}
	if enforced != nil {
		if f.Enforced, err = enforced.compile(); err != nil {
			return err
		}
		f.EnforcedAudit, f.EnforcedPolicies = enforced.audit, enforced.names()
		f.hintAlways, f.hintOnMatch = !enforced.tree && enforced.action == authz.Log, enforced.logs
	}
	if shadow != nil {
		if f.Shadow, err = shadow.compile(); err != nil {
			return err
		}
		f.ShadowAudit, f.ShadowPolicies = shadow.audit, shadow.names()
	}
	return nil
}

// translate returns what the filter's rules or its tree say, nil when there are none. As in Envoy, a tree takes the place of
// rules.
func (f *Filter) translate(prefix string, rules *rbacv3.RBAC, tree *xdsmatcherv3.Matcher, l layer) (*translation, error) {
	if tree != nil {
		if rules != nil {
			f.Notes = append(f.Notes, prefix+"rules: "+prefix+"matcher takes their place")
		}
		t, err := translateTree(tree, l)
		return t, at(prefix+"matcher", err)
	}
	if rules == nil {
		return nil, nil
	}
	t, err := translate(rules, l)
	if err != nil {
		return nil, at(prefix+"rules", err)
	}
	f.noteAudit(prefix+"rules.audit_logging_options", t.audit)
	return t, nil
}

func (f *Filter) noteAudit(field string, a *Audit) {
	if a == nil {
		return
	}
	for _, name := range a.Unknown {
		f.Notes = append(f.Notes, fmt.Sprintf("%s: optional logger %s is not known", field, name))
	}
	if !a.Stdout || !a.OnDeny && !a.OnAllow {
		f.Notes = append(f.Notes, field+": has no effect without both a condition and a logger")
	}
}
