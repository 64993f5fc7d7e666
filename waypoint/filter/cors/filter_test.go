package cors

import (
	"slices"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	. "github.com/gowaypoint/gowaypoint/waypoint/filter/filtertest"
	"github.com/gowaypoint/gowaypoint/waypoint/message"

	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
)

// exchange runs a request, and the response if there is one; the result is the headers of the preflight's answer, or of the
// backend's, as "name: value" lines.
func exchange(t *testing.T, stats *metrics.Stats, policy, method string, headers ...string) (preflight bool, answer []string) {
	t.Helper()
	c := compiler(stats, func(n uint64) uint64 { return n / 2 })
	f := Build(t, c, "envoy.filters.http.cors", &corsv3.Cors{}).(*httpFilter)
	x := New(method, "/", headers...)
	if policy != "" {
		p, err := c.NewRoute(Parse(t, &corsv3.CorsPolicy{}, policy))
		if err != nil {
			t.Fatal(err)
		}
		Route(x, p)
	}
	x.Response = &message.Head{Status: 200}
	preflight = f.Request(x) == filter.Stop
	if preflight {
		r := x.TakeReply()
		if r.Status != 200 || r.Body != "" || r.Details != "cors_response" {
			t.Errorf("%+v", r)
		}
		for i := 0; i < len(r.Headers); i += 2 {
			x.Response.Fields.Append(r.Headers[i], r.Headers[i+1])
		}
	}
	f.Response(x)
	for _, h := range x.Response.Fields.All() {
		answer = append(answer, h.Name+": "+h.Value)
	}
	f.Finish(x)
	if x.Local(f) != nil {
		t.Error("Finish leaves something behind")
	}
	return preflight, answer
}

// istiod sends filter_enabled 100 % and, by default, forward_not_matching_preflights.
const istiod = `{"allow_origin_string_match":[{"exact":"https://a.example"}],"allow_methods":"GET,POST","allow_headers":"x-a,x-b",
	"expose_headers":"x-c","max_age":"86400","allow_credentials":true,"filter_enabled":{"default_value":{"numerator":100}}}`

func TestCORS(t *testing.T) {
	ask := []string{"origin: https://a.example", "access-control-request-method: PUT", "access-control-request-headers: x-q"}
	for name, c := range map[string]struct {
		policy, method string
		headers        []string
		preflight      bool
		want           []string
	}{
		"no policy": {method: "OPTIONS", headers: ask},
		"preflight": {policy: istiod, method: "OPTIONS", headers: ask, preflight: true, want: []string{
			"access-control-allow-origin: https://a.example", "access-control-allow-credentials: true",
			"access-control-allow-methods: GET,POST", "access-control-allow-headers: x-a,x-b", "access-control-max-age: 86400",
			"access-control-expose-headers: x-c"}},
		"a simple request": {policy: istiod, method: "GET", headers: ask[:1], want: []string{
			"access-control-allow-origin: https://a.example", "access-control-allow-credentials: true", "access-control-expose-headers: x-c"}},
		"OPTIONS that is no preflight": {policy: istiod, method: "OPTIONS", headers: ask[:1], want: []string{
			"access-control-allow-origin: https://a.example", "access-control-allow-credentials: true", "access-control-expose-headers: x-c"}},
		"no origin":                  {policy: istiod, method: "OPTIONS", headers: ask[1:]},
		"another origin":             {policy: istiod, method: "GET", headers: []string{"origin: https://b.example"}},
		"another origin's preflight": {policy: istiod, method: "OPTIONS", headers: []string{"origin: https://b.example", ask[1]}},
		"another origin's preflight, not forwarded": {
			policy: `{"allow_origin_string_match":[{"exact":"https://a.example"}],"allow_methods":"GET","forward_not_matching_preflights":false}`,
			method: "OPTIONS", headers: []string{"origin: https://b.example", ask[1]}, preflight: true, want: []string{"access-control-allow-methods: GET"}},
		"everybody, everything": {policy: `{"allow_origin_string_match":[{"exact":"*"}],"allow_methods":"*","allow_headers":"*"}`,
			method: "OPTIONS", headers: ask, preflight: true, want: []string{"access-control-allow-origin: https://a.example",
				"access-control-allow-methods: PUT", "access-control-allow-headers: x-q"}},
		"private network": {policy: `{"allow_origin_string_match":[{"exact":"*"}],"allow_private_network_access":true}`,
			method: "OPTIONS", headers: append(ask, "access-control-request-private-network: true"), preflight: true,
			want: []string{"access-control-allow-origin: https://a.example", "access-control-allow-private-network: true"}},
		"half of the requests, the other half": {policy: `{"allow_origin_string_match":[{"exact":"*"}],"filter_enabled":{"default_value":{"numerator":50}}}`,
			method: "OPTIONS", headers: ask},
		"half of the requests and one in a hundred": {policy: `{"allow_origin_string_match":[{"exact":"*"}],"filter_enabled":{"default_value":{"numerator":5100,"denominator":"TEN_THOUSAND"}}}`,
			method: "GET", headers: ask[:1], want: []string{"access-control-allow-origin: https://a.example"}},
		"shadow only": {policy: `{"allow_origin_string_match":[{"exact":"*"}],"filter_enabled":{"default_value":{}},"shadow_enabled":{"default_value":{"numerator":100}}}`,
			method: "OPTIONS", headers: ask},
	} {
		t.Run(name, func(t *testing.T) {
			preflight, got := exchange(t, metrics.NewStats(), c.policy, c.method, c.headers...)
			if preflight != c.preflight || !slices.Equal(got, c.want) {
				t.Errorf("answered: %v, want %v\n%s\nwant\n%s", preflight, c.preflight, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestCounts(t *testing.T) {
	stats := metrics.NewStats()
	shadow := `{"allow_origin_string_match":[{"exact":"https://a.example"}],"filter_enabled":{"default_value":{}},"shadow_enabled":{"default_value":{"numerator":100}}}`
	for _, p := range []string{istiod, shadow} {
		exchange(t, stats, p, "GET", "origin: https://a.example")
		exchange(t, stats, p, "GET", "origin: https://b.example")
		exchange(t, stats, p, "GET")
	}
	valid, _ := stats.Lookup("http.cors.origin_valid")
	invalid, _ := stats.Lookup("http.cors.origin_invalid")
	if valid != 2 || invalid != 2 {
		t.Errorf("%d valid, %d invalid, want 2 and 2", valid, invalid)
	}
}

func TestOrigins(t *testing.T) {
	for _, c := range []struct {
		matcher  string
		yes, not []string
	}{
		{`{"exact":"https://a"}`, []string{"https://a"}, []string{"https://A", "https://ab"}},
		{`{"exact":"https://A","ignore_case":true}`, []string{"https://a"}, []string{"https://b"}},
		{`{"exact":"k","ignore_case":true}`, []string{"K"}, []string{"\u212a"}},
		{`{"prefix":"https://a."}`, []string{"https://a.b"}, []string{"http://a.b"}},
		{`{"suffix":".a.example"}`, []string{"https://x.a.example"}, []string{"https://a.example", "https://x.a.example.evil"}},
		{`{"contains":"a.e"}`, []string{"https://a.example"}, []string{"https://b"}},
		{`{"safe_regex":{"regex":"https://(a|b)\\.example"}}`, []string{"https://a.example", "https://b.example"}, []string{"https://a.example.evil", "xhttps://a.example"}},
		{`{"safe_regex":{"regex":"a"},"ignore_case":true}`, []string{"a"}, []string{"A"}},
		{`{"safe_regex":{"regex":".*"}}`, []string{"https://a.example"}, nil},
	} {
		p, err := compile(Parse(t, &corsv3.CorsPolicy{}, `{"allow_origin_string_match":[`+c.matcher+`]}`))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range c.yes {
			if !p.allows(o) {
				t.Errorf("%s does not allow %s", c.matcher, o)
			}
		}
		for _, o := range c.not {
			if p.allows(o) {
				t.Errorf("%s allows %s", c.matcher, o)
			}
		}
	}
}

func TestRefusedAndNoted(t *testing.T) {
	for _, m := range []string{`{"custom":{"name":"x"}}`, `{"safe_regex":{"regex":"("}}`} {
		if _, err := compile(Parse(t, &corsv3.CorsPolicy{}, `{"allow_origin_string_match":[`+m+`]}`)); err == nil {
			t.Errorf("%s compiled", m)
		}
	}
	p, err := compile(Parse(t, &corsv3.CorsPolicy{}, `{"filter_enabled":{"runtime_key":"x","default_value":{"numerator":100}}}`))
	if err != nil || len(p.Notes()) != 1 {
		t.Errorf("notes %q, error %v", p.Notes(), err)
	}
}
