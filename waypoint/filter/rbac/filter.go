// Package rbac lets requests and connections pass, or not, by authorization policy.
//
// What it does: asks authz about each request (HTTP) or connection (network), first the shadow rules, which only report, then
// the rules. It does no matching of its own. A decision does not allocate.
//
// Configured by: envoy.extensions.filters.http.rbac.v3.RBAC (rules, shadow_rules, rules_stat_prefix, shadow_rules_stat_prefix)
// with RBACPerRoute at routes, and envoy.extensions.filters.network.rbac.v3.RBAC (rules, shadow_rules, stat_prefix,
// shadow_rules_stat_prefix). rules absent enforces nothing; rules present and empty denies everything (ALLOW) or nothing.
//
// Refuses: whatever authz/rbac cannot honour, naming policy and field. Notes: track_per_rule_stats (no counter per policy),
// delay_deny (a denied connection is closed at once), and shadow_rules of the network filter (counted, but a connection has no
// dynamic metadata to write the result to).
//
// Writes: dynamic metadata envoy.filters.http.rbac (shadow_* and enforced_* keys, with their prefixes) and, for LOG rules,
// envoy.common access_log_hint; Record.Policy; on a denial 403 "RBAC: access denied" (gRPC: status 7) with details
// rbac_access_denied_matched_policy[…], or for a connection those as its termination details, without a response flag. Counters
// http.rbac.*, tcp.rbac.*: allowed, denied, shadow_allowed, shadow_denied. Envoy has the connection manager's prefix between
// http and rbac; in Prometheus that is a label, so the metrics have the same names.
//
// # Attributes
//
// The peer's principal is filter state io.istio.peer_principal, the request's own before the connection's. The source address,
// direct_remote_ip included, is that of the HBONE connection: Envoy compares its internal connection, which has none, so that
// there a DENY by ipBlocks denies nobody. remote_ip is the same address: the configurations that istiod sends a waypoint
// (use_remote_address false, xff_num_trusted_hops 0) trust nobody's x-forwarded-for, while Envoy then believes the client's.
package rbac

import (
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/authz"
	rules "github.com/gowaypoint/gowaypoint/authz/rbac"
	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
)

// HTTP returns the compiler of the HTTP filter. Counters go to stats.
func HTTP(stats *metrics.Stats) filter.Compiler[filter.HTTP] {
	return filter.Compiler[filter.HTTP]{
		New: func(name string, config proto.Message) (filter.HTTP, error) {
			c, ok := config.(*httpv3.RBAC)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T, not a RBAC", config)
			}
			compiled, err := rules.FromHTTP(c)
			if err != nil {
				return nil, err
			}
			f := &httpFilter{
				name:         name,
				policies:     newPolicies(compiled, c.GetRules(), c.GetShadowRules()),
				enforcedSink: newSink(stats, "http.rbac."+compiled.RulesStatPrefix, compiled.EnforcedKeys),
				shadowSink:   newSink(stats, "http.rbac."+compiled.ShadowRulesStatPrefix+"shadow_", compiled.ShadowKeys),
			}
			if compiled.PerRuleStats {
				f.notes = append(f.notes, "track_per_rule_stats: there are no counters per policy")
			}
			return f, nil
		},
		NewRoute: func(config proto.Message) (any, error) { return newRoute(stats, config) },
	}
}

func newRoute(stats *metrics.Stats, config proto.Message) (any, error) {
	c, ok := config.(*httpv3.RBACPerRoute)
	if !ok {
		return nil, fmt.Errorf("configuration is a %T, not a RBACPerRoute", config)
	}
	compiled, err := rules.FromHTTPPerRoute(&rules.Filter{}, c)
	if err != nil {
		return nil, err
	}
	r := &route{policies: newPolicies(compiled, c.GetRbac().GetRules(), c.GetRbac().GetShadowRules())}
	if p := compiled.RulesStatPrefix; p != "" {
		r.enforcedSink = newSink(stats, "http.rbac."+p, compiled.EnforcedKeys)
	}
	if p := compiled.ShadowRulesStatPrefix; p != "" {
		r.shadowSink = newSink(stats, "http.rbac."+p+"shadow_", compiled.ShadowKeys)
	}
	if compiled.PerRuleStats {
		r.notes = append(r.notes, "rbac.track_per_rule_stats: there are no counters per policy")
	}
	return r, nil
}

// policies are the two sets of one configuration. names has each policy's name as a metadata value, made once.
type policies struct {
	enforced, shadow *authz.PolicySet
	names            map[string]*structpb.Value
}

func newPolicies(f *rules.Filter, of ...*rbacv3.RBAC) policies {
	p := policies{enforced: f.Enforced, shadow: f.Shadow, names: map[string]*structpb.Value{}}
	for _, r := range of {
		for name := range r.GetPolicies() {
			p.names[name] = structpb.NewStringValue(name)
		}
	}
	return p
}

// sink is where the results of one set are written.
type sink struct {
	keys            rules.Keys
	allowed, denied *metrics.Counter
	// results are the two metadata values, made once: denied, allowed.
	results [2]*structpb.Value
}

// braces make tags in the names of stats; a prefix has none.
var braces = strings.NewReplacer("{", "_", "}", "_")

func newSink(stats *metrics.Stats, prefix string, keys rules.Keys) *sink {
	prefix = braces.Replace(prefix)
	return &sink{
		keys: keys, allowed: stats.Counter(prefix + "allowed"), denied: stats.Counter(prefix + "denied"),
		results: [2]*structpb.Value{
			structpb.NewStringValue(rules.Result(authz.Decision{})),
			structpb.NewStringValue(rules.Result(authz.Decision{Allowed: true})),
		},
	}
}

func (s *sink) count(d *authz.Decision) {
	if d.Allowed {
		s.allowed.Inc()
	} else {
		s.denied.Inc()
	}
}

// report counts a decision and writes it as metadata. The policy is left as an earlier filter wrote it when none matched, as
// in Envoy: several filters may share the key.
func (s *sink) report(m *filter.Metadata, d *authz.Decision, names map[string]*structpb.Value) {
	s.count(d)
	result := s.results[0]
	if d.Allowed {
		result = s.results[1]
	}
	if d.Policy != "" {
		m.Set(rules.HTTPNamespace, s.keys.Policy, names[d.Policy])
	}
	m.Set(rules.HTTPNamespace, s.keys.Result, result)
}

// httpFilter is the filter's place in a chain.
type httpFilter struct {
	name string
	policies
	enforcedSink, shadowSink *sink
	notes                    []string
}

// route is what a route has in the filter's place. A sink is nil where the filter's own serves.
type route struct {
	policies
	enforcedSink, shadowSink *sink
	notes                    []string
}

func (f *httpFilter) Name() string    { return f.name }
func (f *httpFilter) Notes() []string { return f.notes }
func (r *route) Notes() []string      { return r.notes }

// logHints are the values of access_log_hint: no, yes.
var logHints = [2]*structpb.Value{structpb.NewBoolValue(false), structpb.NewBoolValue(true)}

// Request decides.
func (f *httpFilter) Request(x *filter.Exchange) filter.Action {
	p, enforcedSink, shadowSink := &f.policies, f.enforcedSink, f.shadowSink
	if r, ok := x.PerRoute(f.name).(*route); ok {
		p = &r.policies
		if r.enforcedSink != nil {
			enforcedSink = r.enforcedSink
		}
		if r.shadowSink != nil {
			shadowSink = r.shadowSink
		}
	}
	if p.enforced == nil && p.shadow == nil {
		return filter.Continue
	}
	q := ofRequest(x)
	defer q.release()
	if p.shadow != nil {
		d := p.shadow.Decide(&q.request)
		shadowSink.report(&x.Metadata, &d, p.names)
	}
	if p.enforced == nil {
		return filter.Continue
	}
	d := p.enforced.Decide(&q.request)
	enforcedSink.report(&x.Metadata, &d, p.names)
	switch {
	case d.Action == authz.Log:
		hint := logHints[0]
		if d.Policy != "" {
			hint = logHints[1]
		}
		x.Metadata.Set(rules.LogNamespace, rules.LogKey, hint)
	case !d.Allowed:
		x.Record.Policy = d.Policy
		return x.Reply(filter.Reply{Status: http.StatusForbidden, Body: "RBAC: access denied", Details: d.Details})
	case d.Policy != "":
		x.Record.Policy = d.Policy
	}
	return filter.Continue
}
