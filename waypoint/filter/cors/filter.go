// Package cors answers browsers' preflight requests and marks answers that another origin may read.
//
// What it does: a request with an Origin is compared with the route's policy. A preflight (OPTIONS with
// Access-Control-Request-Method) is answered here; any other request goes on, and its answer gets the headers that let the
// browser hand it to a page of that origin. Nothing is denied: it is the browser that enforces CORS.
//
// Configured by: envoy.extensions.filters.http.cors.v3.Cors (empty), and at routes envoy.extensions.filters.http.cors.v3.CorsPolicy,
// all fields. Envoy takes each field from the most specific of route, virtual host and route configuration that has it; here
// the most specific policy counts as a whole, which is the same for what istiod sends (policies at routes only).
// Refuses: string matchers that are not known. Notes: the runtime keys of filter_enabled and shadow_enabled, since there is no
// runtime.
//
// Writes: access-control-* response headers; preflights are answered with 200 and details cors_response; counters
// http.cors.origin_valid and origin_invalid.
package cors

import (
	"fmt"
	"math/rand/v2"
	"net/http"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// HTTP returns the compiler. Counters go to stats.
func HTTP(stats *metrics.Stats) filter.Compiler[filter.HTTP] { return compiler(stats, rand.Uint64N) }

func compiler(stats *metrics.Stats, draw func(n uint64) uint64) filter.Compiler[filter.HTTP] {
	return filter.Compiler[filter.HTTP]{
		New: func(name string, config proto.Message) (filter.HTTP, error) {
			if _, ok := config.(*corsv3.Cors); !ok {
				return nil, fmt.Errorf("configuration is a %T, not a Cors", config)
			}
			return &httpFilter{name: name, draw: draw,
				valid: stats.Counter("http.cors.origin_valid"), invalid: stats.Counter("http.cors.origin_invalid")}, nil
		},
		NewRoute: func(config proto.Message) (any, error) {
			c, ok := config.(*corsv3.CorsPolicy)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T, not a CorsPolicy", config)
			}
			return compile(c)
		},
	}
}

// policy is a compiled CorsPolicy.
type policy struct {
	origins          []origin
	methods, headers string // "*" echoes what is asked for
	expose, maxAge   string
	credentials      bool
	privateNetwork   bool
	// forward sends preflights of origins that are not allowed on to the backend.
	forward         bool
	enabled, shadow share
	notes           []string
}

func (p *policy) Notes() []string { return p.notes }

func compile(c *corsv3.CorsPolicy) (*policy, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p := &policy{
		methods: c.GetAllowMethods(), headers: c.GetAllowHeaders(), expose: c.GetExposeHeaders(), maxAge: c.GetMaxAge(),
		credentials: c.GetAllowCredentials().GetValue(), privateNetwork: c.GetAllowPrivateNetworkAccess().GetValue(),
		forward: true, // Envoy's default
		enabled: share{1, 1},
	}
	if f := c.GetForwardNotMatchingPreflights(); f != nil {
		p.forward = f.GetValue()
	}
	if e := c.GetFilterEnabled(); e != nil {
		p.enabled = p.share("filter_enabled", e)
	}
	if e := c.GetShadowEnabled(); e != nil {
		p.shadow = p.share("shadow_enabled", e)
	}
	for i, m := range c.GetAllowOriginStringMatch() {
		o, err := newOrigin(m)
		if err != nil {
			return nil, fmt.Errorf("allow_origin_string_match[%d].%w", i, err)
		}
		p.origins = append(p.origins, o)
	}
	return p, nil
}

// share is a FractionalPercent.
type share struct{ numerator, denominator uint64 }

func (p *policy) share(field string, f *corev3.RuntimeFractionalPercent) share {
	if f.GetRuntimeKey() != "" {
		p.notes = append(p.notes, field+".runtime_key: there is no runtime; default_value counts")
	}
	s := share{uint64(f.GetDefaultValue().GetNumerator()), 100}
	switch f.GetDefaultValue().GetDenominator() {
	case typev3.FractionalPercent_TEN_THOUSAND:
		s.denominator = 10_000
	case typev3.FractionalPercent_MILLION:
		s.denominator = 1_000_000
	}
	return s
}

func (s share) hits(draw func(uint64) uint64) bool {
	return s.numerator > 0 && (s.numerator >= s.denominator || draw(s.denominator) < s.numerator)
}

// allows tells whether an origin may see the answers. A matcher that matches "*" matches everybody.
func (p *policy) allows(o string) bool {
	for _, m := range p.origins {
		if m.anybody || m.match(o) {
			return true
		}
	}
	return false
}

type httpFilter struct {
	name           string
	draw           func(n uint64) uint64
	valid, invalid *metrics.Counter
}

// allowed is kept for the response of a request from an origin that is allowed.
type allowed struct {
	policy *policy
	origin string
}

func (f *httpFilter) Name() string { return f.name }

// Request answers preflights.
func (f *httpFilter) Request(x *filter.Exchange) filter.Action {
	p, ok := x.PerRoute(f.name).(*policy)
	if !ok {
		return filter.Continue
	}
	enabled := p.enabled.hits(f.draw)
	if !enabled && !p.shadow.hits(f.draw) {
		return filter.Continue
	}
	o, _ := x.Request.Get("origin")
	if o == "" {
		return filter.Continue
	}
	ok = p.allows(o)
	if ok {
		f.valid.Inc()
	} else {
		f.invalid.Inc()
	}
	if !enabled {
		return filter.Continue
	}
	if ok {
		x.SetLocal(f, &allowed{p, o})
	}
	asked, _ := x.Request.Get("access-control-request-method")
	if x.Request.Method != http.MethodOptions || asked == "" || !ok && p.forward {
		return filter.Continue
	}
	return x.Reply(filter.Reply{Status: http.StatusOK, Details: "cors_response", Headers: p.preflight(x, o, ok, asked)})
}

// preflight are the headers of the answer. An origin that is not allowed gets them too, without its name: the browser then
// refuses.
func (p *policy) preflight(x *filter.Exchange, origin string, ok bool, method string) (h []string) {
	if ok {
		h = append(h, "access-control-allow-origin", origin)
	}
	if p.credentials {
		h = append(h, "access-control-allow-credentials", "true")
	}
	if m := p.methods; m != "" {
		if m == "*" {
			m = method
		}
		h = append(h, "access-control-allow-methods", m)
	}
	if n := p.headers; n != "" {
		if n == "*" {
			n, _ = x.Request.Get("access-control-request-headers")
		}
		h = append(h, "access-control-allow-headers", n)
	}
	if p.maxAge != "" {
		h = append(h, "access-control-max-age", p.maxAge)
	}
	if v, _ := x.Request.Get("access-control-request-private-network"); p.privateNetwork && v == "true" {
		h = append(h, "access-control-allow-private-network", "true")
	}
	return h
}

// Response marks the answer, the preflight's included, as Envoy does.
func (f *httpFilter) Response(x *filter.Exchange) {
	a, ok := x.Local(f).(*allowed)
	if !ok {
		return
	}
	h := &x.Response.Fields
	h.SetName("access-control-allow-origin", a.origin)
	if a.policy.credentials {
		h.SetName("access-control-allow-credentials", "true")
	}
	if a.policy.expose != "" {
		h.SetName("access-control-expose-headers", a.policy.expose)
	}
}

// Finish forgets the request.
func (f *httpFilter) Finish(x *filter.Exchange) { x.SetLocal(f, nil) }
