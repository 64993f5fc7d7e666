// Package rbac lets requests and connections pass, or not, by authorization policy.
//
// What it does: asks authz about each request (HTTP) or connection (network), first the shadow rules, which only report, then
// the rules. It does no matching of its own. A decision does not allocate.
//
// Configured by: envoy.extensions.filters.http.rbac.v3.RBAC (all fields) with RBACPerRoute at routes, and
// envoy.extensions.filters.network.rbac.v3.RBAC (all but enforcement_type CONTINUOUS). rules absent enforces nothing; rules
// present and empty denies everything (ALLOW) or nothing. A matcher tree takes the place of rules.
//
// Refuses: whatever authz/rbac cannot honour, naming policy and field. Notes: rules beside a matcher, optional audit loggers that
// are unknown, and shadow rules of the network filter (counted, but a connection has no dynamic metadata to write the result to).
//
// Writes: dynamic metadata envoy.filters.http.rbac (shadow_* and enforced_* keys, with their prefixes) and, for LOG, envoy.common
// access_log_hint; Record.Policy; on a denial 403 "RBAC: access denied" (gRPC: status 7) with details
// rbac_access_denied_matched_policy[…], or for a connection those as its termination details, without a response flag, and
// after delay_deny. Counters http.rbac.*, tcp.rbac.*: allowed, denied, shadow_allowed, shadow_denied, and with
// track_per_rule_stats policy.<name>.* beside them. A prefix of rules stands before them with a dot of its own; that of a route
// is for metadata alone, as in Envoy. Envoy has the connection manager's prefix between http and rbac; in Prometheus that is a
// label, so the metrics have the same names. For decisions that audit_logging_options asks for, a line of JSON to Options.Audit.
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
	"io"
	"net/http"
	"os"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/authz"
	rules "github.com/gowaypoint/gowaypoint/authz/rbac"
	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"

	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
)

// Options are what the filters need of the rest of the program.
type Options struct {
	// Stats takes the counters.
	Stats *metrics.Stats
	// Audit takes the lines of the logger StdoutAuditLog, each in one Write, and must not block. Default: standard output.
	Audit io.Writer
}

func (o Options) audit() io.Writer {
	if o.Audit == nil {
		return os.Stdout
	}
	return o.Audit
}

// HTTP returns the compiler of the HTTP filter.
func HTTP(o Options) filter.Compiler[filter.HTTP] {
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
			return &httpFilter{
				name:     name,
				policies: newPolicies(compiled),
				enforced: newCounters(o.Stats, "http.rbac.", compiled.RulesStatPrefix, ""),
				shadow:   newCounters(o.Stats, "http.rbac.", compiled.ShadowRulesStatPrefix, "shadow_"),
				out:      o.audit(),
			}, nil
		},
		NewRoute: newRoute,
	}
}

func newRoute(config proto.Message) (any, error) {
	c, ok := config.(*httpv3.RBACPerRoute)
	if !ok {
		return nil, fmt.Errorf("configuration is a %T, not a RBACPerRoute", config)
	}
	compiled, err := rules.FromHTTPPerRoute(&rules.Filter{}, c)
	if err != nil {
		return nil, err
	}
	return &route{newPolicies(compiled)}, nil
}

// policies are the two sets of one configuration. values has each policy's name as a metadata value, made once.
type policies struct {
	*rules.Filter
	values map[string]*structpb.Value
}

func newPolicies(f *rules.Filter) policies {
	p := policies{f, map[string]*structpb.Value{}}
	for _, name := range slices.Concat(f.EnforcedPolicies, f.ShadowPolicies) {
		p.values[name] = structpb.NewStringValue(name)
	}
	return p
}

// Notes are those of the configuration.
func (p policies) Notes() []string { return p.Filter.Notes }

// results are the two metadata values: denied, allowed.
var results = [2]*structpb.Value{
	structpb.NewStringValue(rules.Result(authz.Decision{})),
	structpb.NewStringValue(rules.Result(authz.Decision{Allowed: true})),
}

// report writes a decision as metadata. The policy is left as an earlier filter wrote it when none matched, as in Envoy: several
// filters may share the key.
func (p policies) report(m *filter.Metadata, keys rules.Keys, d *authz.Decision) {
	if d.Policy != "" {
		m.Set(rules.HTTPNamespace, keys.Policy, p.values[d.Policy])
	}
	m.Set(rules.HTTPNamespace, keys.Result, results[index(d.Allowed)])
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// httpFilter is the filter's place in a chain.
type httpFilter struct {
	name string
	policies
	enforced, shadow *counters
	out              io.Writer
}

// route is what a route has in the filter's place.
type route struct{ policies }

func (f *httpFilter) Name() string { return f.name }

// logHints are the values of access_log_hint: no, yes.
var logHints = [2]*structpb.Value{structpb.NewBoolValue(false), structpb.NewBoolValue(true)}

// Request decides.
func (f *httpFilter) Request(x *filter.Exchange) filter.Action {
	p, keys, shadowKeys := f.policies, f.EnforcedKeys, f.ShadowKeys
	if r, ok := x.PerRoute(f.name).(*route); ok {
		p = r.policies
		if p.RulesStatPrefix != "" {
			keys = p.EnforcedKeys
		}
		if p.ShadowRulesStatPrefix != "" {
			shadowKeys = p.ShadowKeys
		}
	}
	if p.Enforced == nil && p.Shadow == nil {
		return filter.Continue
	}
	q := ofRequest(x)
	defer q.release()
	if p.Shadow != nil {
		d := p.Shadow.Decide(&q.request)
		f.shadow.count(&d, p.PerRuleStats)
		p.report(&x.Metadata, shadowKeys, &d)
		if p.ShadowAudit.Wants(d) && p.ShadowAudit.Stdout {
			writeAudit(f.out, f.name, q, &d, true)
		}
	}
	if p.Enforced == nil {
		return filter.Continue
	}
	d := p.Enforced.Decide(&q.request)
	f.enforced.count(&d, p.PerRuleStats)
	p.report(&x.Metadata, keys, &d)
	if p.EnforcedAudit.Wants(d) && p.EnforcedAudit.Stdout {
		writeAudit(f.out, f.name, q, &d, false)
	}
	if hint, ok := p.LogHint(d); ok {
		x.Metadata.Set(rules.LogNamespace, rules.LogKey, logHints[index(hint)])
	}
	switch {
	case !d.Allowed:
		x.Record.Policy = d.Policy
		return x.Reply(filter.Reply{Status: http.StatusForbidden, Body: "RBAC: access denied", Details: d.Details})
	case d.Policy != "" && d.Action != authz.Log:
		x.Record.Policy = d.Policy
	}
	return filter.Continue
}
