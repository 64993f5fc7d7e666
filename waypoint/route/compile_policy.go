package route

import (
	"errors"
	"fmt"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

const (
	previousHosts      = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
	previousPriorities = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"

	// defaultBackoff and backoffFactor are Envoy's: 25 ms, and ten times the base at most.
	defaultBackoff = 25 * time.Millisecond
	backoffFactor  = 10
)

// retry compiles a RetryPolicy; nil stays nil.
func (c *compiler) retry(p *routev3.RetryPolicy, path string) (*Retry, error) {
	if p == nil {
		return nil, nil
	}
	r := &Retry{
		On: ParseRetryOn(p.GetRetryOn()), Max: 1, HostAttempts: 1, // Envoy's defaults
		PerTryTimeout: p.GetPerTryTimeout().AsDuration(), PerTryIdleTimeout: p.GetPerTryIdleTimeout().AsDuration(),
		BackoffBase: defaultBackoff,
	}
	for _, t := range strings.Split(p.GetRetryOn(), ",") {
		if t = strings.TrimSpace(t); t != "" && retryToken(t) == 0 {
			c.note(path+".retry_on", fmt.Sprintf("%q is no condition that is known; statuses belong into retriable_status_codes", t))
		}
	}
	if n := p.GetNumRetries(); n != nil {
		r.Max = n.GetValue()
	}
	if n := p.GetHostSelectionRetryMaxAttempts(); n > 0 {
		r.HostAttempts = int(min(n, 1<<16))
	}
	for _, s := range p.GetRetriableStatusCodes() {
		r.Statuses = append(r.Statuses, int(s))
	}
	for i, h := range p.GetRetryHostPredicate() {
		if typeName(h.GetTypedConfig().GetTypeUrl()) == previousHosts {
			r.SkipPrevious = true
		} else {
			c.note(index(path+".retry_host_predicate", i), fmt.Sprintf("%q is not supported", h.GetName()))
		}
	}
	if rp := p.GetRetryPriority(); rp != nil {
		if typeName(rp.GetTypedConfig().GetTypeUrl()) == previousPriorities {
			r.PreviousPriorities = true
		} else {
			c.note(path+".retry_priority", fmt.Sprintf("%q is not supported", rp.GetName()))
		}
	}
	if b := p.GetRetryBackOff(); b != nil {
		r.BackoffBase = max(b.GetBaseInterval().AsDuration(), time.Millisecond)
		if m := b.GetMaxInterval(); m != nil {
			r.BackoffMax = max(m.AsDuration(), time.Millisecond)
			if r.BackoffMax < r.BackoffBase {
				return nil, errors.New("retry_back_off: max_interval is less than base_interval")
			}
		}
	}
	if r.BackoffMax == 0 {
		r.BackoffMax = backoffFactor * r.BackoffBase
	}
	for i, m := range p.GetRetriableHeaders() {
		h, err := headerMatch(m)
		switch {
		case errors.Is(err, errUnsupported):
			c.note(index(path+".retriable_headers", i), err.Error())
		case err != nil:
			return nil, at(index("retriable_headers", i), err)
		default:
			r.RetriableHeaders = append(r.RetriableHeaders, h)
		}
	}
	return r, nil
}

// mirrors compiles the route's mirror policies or, if it has none, the virtual host's or the route configuration's.
func (c *compiler) mirrors(a *routev3.RouteAction, path string, v *routev3.VirtualHost) ([]Mirror, error) {
	list := a.GetRequestMirrorPolicies()
	if len(list) == 0 {
		if list = v.GetRequestMirrorPolicies(); len(list) == 0 {
			list = c.config.GetRequestMirrorPolicies()
		}
	}
	var out []Mirror
	for i, p := range list {
		here := index("request_mirror_policies", i)
		if (p.GetCluster() == "") == (p.GetClusterHeader() == "") {
			return nil, errors.New(here + ": exactly one of cluster and cluster_header must be set")
		}
		if p.GetCluster() == "" {
			continue // reported by the audit
		}
		m := Mirror{Cluster: p.GetCluster(), Numerator: 100, Denominator: 100, HostSuffix: !p.GetDisableShadowHostSuffixAppend(),
			TraceSampled: optional(p.GetTraceSampled())}
		if f := p.GetRuntimeFraction(); f != nil {
			part := c.fraction(f, path+"."+here+".runtime_fraction")
			m.Numerator, m.Denominator = part.Numerator, part.Denominator
		}
		out = append(out, m)
	}
	return out, nil
}

func (c *compiler) hashPolicies(path string, list []*routev3.RouteAction_HashPolicy) ([]HashPolicy, error) {
	var out []HashPolicy
	for i, p := range list {
		h := HashPolicy{Terminal: p.GetTerminal()}
		switch s := p.GetPolicySpecifier().(type) {
		case *routev3.RouteAction_HashPolicy_Header_:
			h.Header = lowerName(s.Header.GetHeaderName())
			var err error
			if h.HeaderRewrite, err = c.regexRewrite(index(path+".hash_policy", i)+".header.regex_rewrite", s.Header.GetRegexRewrite()); err != nil {
				return nil, at(index("hash_policy", i)+".header.regex_rewrite", err)
			}
		case *routev3.RouteAction_HashPolicy_Cookie_:
			h.Cookie, h.CookiePath = s.Cookie.GetName(), s.Cookie.GetPath()
			if t := s.Cookie.GetTtl(); t != nil {
				ttl := t.AsDuration().Truncate(time.Second) // Max-Age is in seconds
				h.CookieTTL = &ttl
			}
			for _, a := range s.Cookie.GetAttributes() {
				h.CookieAttributes += "; " + a.GetName()
				if a.GetValue() != "" {
					h.CookieAttributes += "=" + a.GetValue()
				}
			}
		case *routev3.RouteAction_HashPolicy_ConnectionProperties_:
			if h.SourceIP = s.ConnectionProperties.GetSourceIp(); !h.SourceIP {
				continue
			}
		case *routev3.RouteAction_HashPolicy_QueryParameter_:
			h.Query = s.QueryParameter.GetName()
		default: // filter_state: reported by the audit
			continue
		}
		out = append(out, h)
	}
	return out, nil
}
