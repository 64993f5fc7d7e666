package route

import (
	"errors"
	"fmt"

	"github.com/gowaypoint/gowaypoint/telemetry/format"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Options are what Compile takes from the rest of the program. The zero value is usable.
type Options struct {
	// Filters compiles typed_per_filter_config by the type of the configuration, where PerRoute is nil.
	Filters filter.Registry
	// PerRoute compiles one entry of typed_per_filter_config for whoever knows the filters of the chain. nil without an error:
	// the entry concerns no filter that is there. An error refuses the routes that the entry is for.
	PerRoute func(filter string, config *anypb.Any) (any, error)
	// Format is for the operators in header values.
	Format format.Options
	// SuppressEnvoyHeaders is the router's suppress_envoy_headers: rewrites leave no x-envoy-original-path and -host.
	SuppressEnvoyHeaders bool
}

// Compile compiles a route configuration.
//
// An error means that Envoy would not take the configuration either (a bad expression, a domain that is there twice, weights
// that add up to nothing); it names the route configuration, virtual host, route and field.
//
// What is valid and not honoured is named in notes, by field path. Where a request could pass, or go elsewhere, because of it,
// the routes concerned are Refused besides.
func Compile(rc *routev3.RouteConfiguration, o Options) (*Config, []string, error) {
	c := &compiler{opt: o, config: rc, noted: map[string]bool{}}
	c.opt.Format.OmitEmpty = true // an absent operator is no "-" in a header, as in Envoy
	cfg, err := c.compile(rc)
	if err != nil {
		return nil, c.notes, fmt.Errorf("route configuration %q: %w", rc.GetName(), err)
	}
	return cfg, c.notes, nil
}

// compiler holds what the parts of one Compile share.
type compiler struct {
	opt    Options
	config *routev3.RouteConfiguration
	notes  []string
	noted  map[string]bool
	// refused is why the configuration or the virtual host at hand refuses its routes.
	refused error
}

// note reports a field, once.
func (c *compiler) note(field, why string) {
	if n := field + ": " + why; !c.noted[n] {
		c.noted[n] = true
		c.notes = append(c.notes, n)
	}
}

// errUnsupported is in the errors about what Envoy has and this program does not: they refuse a route, not the configuration.
var errUnsupported = errors.New("is not supported")

// spare turns an error about what is not supported into a refusal, and leaves others.
func (c *compiler) spare(path string, err error) (refused, fatal error) {
	if !errors.Is(err, errUnsupported) {
		return nil, err
	}
	c.note(path, err.Error()+"; requests for it are refused")
	return at(path, err), nil
}

// at puts a field before an error. nil stays nil.
func at(field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", field, err)
}

// index is the path of an element.
func index(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

// join is a field in a message; the message's path may be empty.
func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

func (c *compiler) compile(rc *routev3.RouteConfiguration) (*Config, error) {
	cfg := &Config{
		Name:                            rc.GetName(),
		MaxDirectBody:                   4096, // Envoy's default
		MostSpecificHeaderMutationsWins: rc.GetMostSpecificHeaderMutationsWins(),
		OriginalHeaders:                 !c.opt.SuppressEnvoyHeaders,
		ignoreParameters:                rc.GetIgnorePathParametersInPathMatching(),
		hosts:                           hostTable{ignorePort: rc.GetIgnorePortInHostMatching()},
	}
	if m := rc.GetMaxDirectResponseBodySizeBytes(); m != nil {
		cfg.MaxDirectBody = int(m.GetValue())
	}
	cfg.hosts.header = lowerName(rc.GetVhostHeader())
	refused := c.audit(rc.ProtoReflect(), "")
	var err error
	if cfg.RequestHeaders, err = c.headerOps("", "request_headers", rc.GetRequestHeadersToAdd(), rc.GetRequestHeadersToRemove()); err != nil {
		return nil, err
	}
	if cfg.ResponseHeaders, err = c.headerOps("", "response_headers", rc.GetResponseHeadersToAdd(), rc.GetResponseHeadersToRemove()); err != nil {
		return nil, err
	}
	cfg.FilterConfigs, err = c.filterConfigs("typed_per_filter_config", rc.GetTypedPerFilterConfig())
	refused = errors.Join(refused, err)
	for i, v := range rc.GetVirtualHosts() {
		c.refused = refused
		host, err := c.virtualHost(v, index("virtual_hosts", i), cfg)
		if err != nil {
			return nil, fmt.Errorf("virtual host %q: %w", v.GetName(), err)
		}
		cfg.VirtualHosts = append(cfg.VirtualHosts, host)
	}
	return cfg, nil
}

func (c *compiler) virtualHost(v *routev3.VirtualHost, path string, cfg *Config) (*VirtualHost, error) {
	host := &VirtualHost{Name: v.GetName(), Domains: v.GetDomains(), Metadata: v.GetMetadata(), Config: cfg}
	if len(host.Domains) == 0 {
		return nil, errors.New("domains: there must be one at least")
	}
	for _, d := range host.Domains {
		if err := cfg.hosts.add(d, host); err != nil {
			return nil, err
		}
	}
	c.refused = errors.Join(c.refused, c.audit(v.ProtoReflect(), path))
	var err error
	if host.RequestHeaders, err = c.headerOps(path, "request_headers", v.GetRequestHeadersToAdd(), v.GetRequestHeadersToRemove()); err != nil {
		return nil, err
	}
	if host.ResponseHeaders, err = c.headerOps(path, "response_headers", v.GetResponseHeadersToAdd(), v.GetResponseHeadersToRemove()); err != nil {
		return nil, err
	}
	host.FilterConfigs, err = c.filterConfigs(path+".typed_per_filter_config", v.GetTypedPerFilterConfig())
	c.refused = errors.Join(c.refused, err)
	if v.GetMatcher() != nil {
		// Its routes are in a form that is not read here: all requests of the virtual host are refused.
		host.Routes = []*Route{{Host: host, Refused: c.refused}}
		return host, nil
	}
	for i, r := range v.GetRoutes() {
		compiled, err := c.route(r, index(path+".routes", i), v, host)
		if err != nil {
			return nil, fmt.Errorf("route %d %q: %w", i, r.GetName(), err)
		}
		host.Routes = append(host.Routes, compiled)
	}
	if len(host.Routes) == 0 && c.refused != nil {
		host.Routes = []*Route{{Host: host, Refused: c.refused}}
	}
	host.requireTLS(v.GetRequireTls())
	return host, nil
}

// requireTLS makes the route that answers what did not come over TLS, with a redirect as in Envoy.
func (v *VirtualHost) requireTLS(want routev3.VirtualHost_TlsRequirementType) {
	if want == routev3.VirtualHost_NONE {
		return
	}
	v.externalOnly = want == routev3.VirtualHost_EXTERNAL_ONLY
	v.toTLS = &Route{Host: v, Redirect: &Redirect{Status: 301, HTTPS: true}}
}

func (c *compiler) route(r *routev3.Route, path string, v *routev3.VirtualHost, host *VirtualHost) (*Route, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	out := &Route{
		Name: r.GetName(), Metadata: r.GetMetadata(), Host: host,
		Operation:          r.GetDecorator().GetOperation(),
		PropagateOperation: r.GetDecorator() != nil && (r.GetDecorator().GetPropagate() == nil || r.GetDecorator().GetPropagate().GetValue()),
		Refused:            errors.Join(c.refused, c.audit(r.ProtoReflect(), path)),
	}
	refused, err := c.match(&out.Match, r.GetMatch(), path+".match")
	if err != nil {
		return nil, at("match", err)
	}
	out.Refused = errors.Join(out.Refused, refused)
	if out.RequestHeaders, err = c.headerOps(path, "request_headers", r.GetRequestHeadersToAdd(), r.GetRequestHeadersToRemove()); err != nil {
		return nil, err
	}
	if out.ResponseHeaders, err = c.headerOps(path, "response_headers", r.GetResponseHeadersToAdd(), r.GetResponseHeadersToRemove()); err != nil {
		return nil, err
	}
	out.FilterConfigs, err = c.filterConfigs(path+".typed_per_filter_config", r.GetTypedPerFilterConfig())
	out.Refused = errors.Join(out.Refused, err)
	switch action := r.GetAction().(type) {
	case *routev3.Route_Route:
		out.Forward, refused, err = c.forward(action.Route, path+".route", &out.Match, v)
		out.Refused = errors.Join(out.Refused, refused)
		err = at("route", err)
	case *routev3.Route_Redirect:
		out.Redirect, err = c.redirect(action.Redirect, path+".redirect", &out.Match)
		err = at("redirect", err)
	case *routev3.Route_DirectResponse:
		out.Direct, err = direct(action.DirectResponse)
		err = at("direct_response", err)
	default: // refused by the audit
	}
	if err != nil {
		return nil, err
	}
	if out.Forward == nil && out.Redirect == nil && out.Direct == nil && out.Refused == nil {
		out.Refused = errors.New(path + ": has no action that is known here")
	}
	return out, nil
}

// fraction reads a RuntimeFractionalPercent. There is no runtime: its key is reported and the default holds.
func (c *compiler) fraction(f *corev3.RuntimeFractionalPercent, path string) *Fraction {
	if key := f.GetRuntimeKey(); key != "" {
		c.note(path+".runtime_key", fmt.Sprintf("there is no runtime; %q has its default value", key))
	}
	p := f.GetDefaultValue()
	d := []uint32{100, 10_000, 1_000_000}
	if int(p.GetDenominator()) >= len(d) {
		return &Fraction{p.GetNumerator(), 100}
	}
	return &Fraction{p.GetNumerator(), d[p.GetDenominator()]}
}
