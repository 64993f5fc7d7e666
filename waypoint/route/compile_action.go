package route

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// defaultTimeout is Envoy's for a route without one. istiod always sends one, mostly 0s.
const defaultTimeout = 15 * time.Second

// forward compiles a RouteAction. refused: it stands, but what it asks for cannot be done.
func (c *compiler) forward(a *routev3.RouteAction, path string, m *Match, v *routev3.VirtualHost) (f *Forward, refused, err error) {
	f = &Forward{
		NotFoundStatus: 503, Timeout: defaultTimeout,
		PrefixRewrite: a.GetPrefixRewrite(), matched: m.matched(),
		AppendXFH: a.GetAppendXForwardedHost(),
	}
	switch a.GetClusterNotFoundResponseCode() {
	case routev3.RouteAction_NOT_FOUND:
		f.NotFoundStatus = 404
	case routev3.RouteAction_INTERNAL_SERVER_ERROR:
		f.NotFoundStatus = 500
	}
	switch to := a.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		f.Clusters, f.TotalWeight = []WeightedCluster{{Name: to.Cluster, Weight: 1}}, 1
	case *routev3.RouteAction_ClusterHeader:
		f.ClusterHeader = lowerName(to.ClusterHeader)
	case *routev3.RouteAction_WeightedClusters:
		if refused, err = c.weighted(f, to.WeightedClusters, path+".weighted_clusters"); err != nil {
			return nil, nil, at("weighted_clusters", err)
		}
	default: // refused by the audit
	}
	if err = c.rewrites(f, a, path); err != nil {
		return nil, nil, err
	}
	c.timeouts(f, a, path)
	if err = f.upgrades(a.GetUpgradeConfigs()); err != nil {
		return nil, nil, err
	}
	policy, where := a.GetRetryPolicy(), path+".retry_policy"
	if policy == nil {
		policy, where = v.GetRetryPolicy(), "the virtual host's retry_policy"
	}
	if f.Retry, err = c.retry(policy, where); err != nil {
		return nil, nil, at("retry_policy", err)
	}
	if f.Mirrors, err = c.mirrors(a, path, v); err != nil {
		return nil, nil, err
	}
	f.HashPolicies, err = c.hashPolicies(path, a.GetHashPolicy())
	return f, refused, err
}

func (c *compiler) weighted(f *Forward, w *routev3.WeightedCluster, path string) (refused, err error) {
	var sum uint64
	for i, wc := range w.GetClusters() {
		here := index("clusters", i)
		if wc.GetWeight() == nil {
			return nil, fmt.Errorf("%s %q: weight is missing", here, wc.GetName())
		}
		if (wc.GetName() == "") == (wc.GetClusterHeader() == "") {
			return nil, fmt.Errorf("%s: exactly one of name and cluster_header must be set", here)
		}
		out := WeightedCluster{Name: wc.GetName(), Weight: wc.GetWeight().GetValue(), HostRewrite: wc.GetHostRewriteLiteral()}
		sum += uint64(out.Weight)
		if out.RequestHeaders, err = c.headerOps(path+"."+here, "request_headers", wc.GetRequestHeadersToAdd(), wc.GetRequestHeadersToRemove()); err != nil {
			return nil, at(here, err)
		}
		if out.ResponseHeaders, err = c.headerOps(path+"."+here, "response_headers", wc.GetResponseHeadersToAdd(), wc.GetResponseHeadersToRemove()); err != nil {
			return nil, at(here, err)
		}
		fc, ferr := c.filterConfigs(path+"."+here+".typed_per_filter_config", wc.GetTypedPerFilterConfig())
		out.FilterConfigs = fc
		refused = errors.Join(refused, ferr)
		f.Clusters = append(f.Clusters, out)
	}
	switch {
	case sum == 0:
		return nil, errors.New("the sum of the weights must be greater than 0")
	case sum > 1<<32-1:
		return nil, fmt.Errorf("the sum of the weights is %d; it must fit in 32 bits", sum)
	}
	f.TotalWeight = uint32(sum)
	return refused, nil
}

func (c *compiler) rewrites(f *Forward, a *routev3.RouteAction, path string) (err error) {
	n := 0
	for _, set := range []bool{f.PrefixRewrite != "", a.GetRegexRewrite() != nil, a.GetPathRewrite() != "", a.GetPathRewritePolicy() != nil} {
		if set {
			n++
		}
	}
	if n > 1 {
		return errors.New("only one of prefix_rewrite, regex_rewrite, path_rewrite and path_rewrite_policy may be set")
	}
	if f.RegexRewrite, err = c.regexRewrite(path+".regex_rewrite", a.GetRegexRewrite()); err != nil {
		return at("regex_rewrite", err)
	}
	if p := a.GetPathRewrite(); p != "" {
		if f.PathFormat, err = c.format(path+".path_rewrite", p); err != nil {
			return at("path_rewrite", err)
		}
	}
	switch h := a.GetHostRewriteSpecifier().(type) {
	case *routev3.RouteAction_HostRewriteLiteral:
		f.HostRewrite = h.HostRewriteLiteral
	case *routev3.RouteAction_AutoHostRewrite:
		f.AutoHost = h.AutoHostRewrite.GetValue()
	case *routev3.RouteAction_HostRewriteHeader:
		f.HostHeader = lowerName(h.HostRewriteHeader)
	case *routev3.RouteAction_HostRewritePathRegex:
		f.HostPathRegex, err = c.regexRewrite(path+".host_rewrite_path_regex", h.HostRewritePathRegex)
		return at("host_rewrite_path_regex", err)
	case *routev3.RouteAction_HostRewrite:
		f.HostFormat, err = c.format(path+".host_rewrite", h.HostRewrite)
		return at("host_rewrite", err)
	}
	return nil
}

// regexRewrite compiles an expression that need not match all. nil stays nil.
func (c *compiler) regexRewrite(path string, m *matcherv3.RegexMatchAndSubstitute) (*RegexRewrite, error) {
	if m == nil {
		return nil, nil
	}
	re, err := regexp.Compile(m.GetPattern().GetRegex())
	if err != nil {
		return nil, at("pattern", err)
	}
	s, ok := substitution(m.GetSubstitution(), re.NumSubexp())
	if !ok {
		// Envoy takes it, and RE2 then replaces nothing.
		c.note(path+".substitution", fmt.Sprintf("%q is malformed, or the pattern has no such group: nothing is replaced", m.GetSubstitution()))
		s = "${0}"
	}
	return &RegexRewrite{re, s}, nil
}

// substitution turns RE2's form, in which \1 is a group, into Go's ${1}.
func substitution(s string, groups int) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '$':
			b.WriteString("$$")
		case s[i] != '\\':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '\\':
			i++
			b.WriteByte('\\')
		case i+1 < len(s) && s[i+1] >= '0' && int(s[i+1]-'0') <= min(groups, 9):
			i++
			b.WriteString("${" + s[i:i+1] + "}")
		default:
			return "", false
		}
	}
	return b.String(), true
}

// timeouts reads timeout and the deprecated max_grpc_timeout, which istiod sends alike. With max_stream_duration Envoy looks
// at that instead of max_grpc_timeout; its limit on grpc-timeout is taken as one here.
func (c *compiler) timeouts(f *Forward, a *routev3.RouteAction, path string) {
	if t := a.GetTimeout(); t != nil {
		f.Timeout = t.AsDuration()
	}
	if t := a.GetIdleTimeout(); t != nil {
		if f.IdleTimeout = t.AsDuration(); f.IdleTimeout == 0 {
			f.IdleTimeout = -1
		}
	}
	if a.GetMaxStreamDuration() == nil {
		if t := a.GetMaxGrpcTimeout(); t != nil {
			f.GRPCTimeout, f.MaxGRPCTimeout = true, t.AsDuration()
		}
		return
	}
	if t := a.GetMaxStreamDuration().GetGrpcTimeoutHeaderMax(); t != nil {
		f.GRPCTimeout, f.MaxGRPCTimeout = true, t.AsDuration()
		c.note(path+".max_stream_duration.grpc_timeout_header_max", "is taken as max_grpc_timeout")
	}
}

func (f *Forward) upgrades(list []*routev3.RouteAction_UpgradeConfig) error {
	for i, u := range list {
		token := strings.ToLower(u.GetUpgradeType())
		if _, twice := f.Upgrades[token]; twice {
			return fmt.Errorf("%s: upgrade_type %q is there twice", index("upgrade_configs", i), u.GetUpgradeType())
		}
		if f.Upgrades == nil {
			f.Upgrades = map[string]bool{}
		}
		on := u.GetEnabled() == nil || u.GetEnabled().GetValue()
		f.Upgrades[token] = on
		if u.GetConnectConfig() != nil {
			if token != "connect" {
				return fmt.Errorf("%s: connect_config is for upgrade_type CONNECT, not %q", index("upgrade_configs", i), u.GetUpgradeType())
			}
			f.Connect = on
		}
	}
	return nil
}

func (c *compiler) redirect(a *routev3.RedirectAction, path string, m *Match) (*Redirect, error) {
	r := &Redirect{
		Status: 301, HTTPS: a.GetHttpsRedirect(), Scheme: a.GetSchemeRedirect(), Host: a.GetHostRedirect(), Port: a.GetPortRedirect(),
		Path: a.GetPathRedirect(), PrefixRewrite: a.GetPrefixRewrite(), StripQuery: a.GetStripQuery(), matched: m.matched(),
	}
	switch a.GetResponseCode() {
	case routev3.RedirectAction_FOUND:
		r.Status = 302
	case routev3.RedirectAction_SEE_OTHER:
		r.Status = 303
	case routev3.RedirectAction_TEMPORARY_REDIRECT:
		r.Status = 307
	case routev3.RedirectAction_PERMANENT_REDIRECT:
		r.Status = 308
	}
	if r.StripQuery && strings.Contains(r.Path, "?") {
		c.note(path+".strip_query", "path_redirect has a query, which stays")
	}
	var err error
	r.RegexRewrite, err = c.regexRewrite(path+".regex_rewrite", a.GetRegexRewrite())
	return r, at("regex_rewrite", err)
}

// maxFileBody bounds a direct response's body that comes from a file, which no control plane has looked at.
const maxFileBody = 1 << 20

func direct(a *routev3.DirectResponseAction) (*Direct, error) {
	d := &Direct{Status: int(a.GetStatus())}
	switch b := a.GetBody().GetSpecifier().(type) {
	case nil:
	case *corev3.DataSource_InlineString:
		d.Body = b.InlineString
	case *corev3.DataSource_InlineBytes:
		d.Body = string(b.InlineBytes)
	case *corev3.DataSource_EnvironmentVariable:
		v, ok := os.LookupEnv(b.EnvironmentVariable)
		if !ok {
			return nil, fmt.Errorf("body.environment_variable: %q is not set", b.EnvironmentVariable)
		}
		d.Body = v
	case *corev3.DataSource_Filename:
		info, err := os.Stat(b.Filename)
		if err == nil && (!info.Mode().IsRegular() || info.Size() > maxFileBody) {
			err = fmt.Errorf("%q is not a file of at most %d bytes", b.Filename, maxFileBody)
		}
		if err != nil {
			return nil, at("body.filename", err)
		}
		data, err := os.ReadFile(b.Filename)
		if err != nil {
			return nil, at("body.filename", err)
		}
		d.Body = string(data)
	}
	return d, nil
}
