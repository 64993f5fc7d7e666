package route

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// large has virtual hosts of all kinds, and routes with all conditions that istiod can send.
func large(t testing.TB) *Config {
	var b strings.Builder
	b.WriteString("name: large\nvirtual_hosts:\n")
	for i := range 20 {
		fmt.Fprintf(&b, "- {name: v%d, domains: [\"v%d.example\", \"*.v%d.example\", \"v%d.*\"], routes: [{name: r, match: {prefix: /}, route: {cluster: c}}]}\n", i, i, i, i)
	}
	b.WriteString(`- name: rest
  domains: ["*"]
  routes:
  - {name: regex, match: {safe_regex: {regex: "/v[0-9]+/.*"}, headers: [{name: x-a, string_match: {safe_regex: {regex: "a+"}}}]}, route: {cluster: c}}
  - {name: fold, match: {path: /Fold, case_sensitive: false, query_parameters: [{name: q, string_match: {exact: "1"}}]}, route: {cluster: c}}
  - {name: cookie, match: {prefix: /, cookies: [{name: sid, string_match: {exact: x}}], runtime_fraction: {default_value: {numerator: 50}}}, route: {cluster: c}}
  - {name: range, match: {prefix: /, headers: [{name: x-n, range_match: {start: 1, end: 5}}, {name: ":method", string_match: {exact: GET}}]}, route: {cluster: c}}
  - {name: last, match: {path_separated_prefix: /hello}, route: {cluster: c}}
`)
	cfg, notes, err := compileYAML(t, b.String())
	if err != nil || len(notes) > 0 {
		t.Fatal(err, notes)
	}
	return cfg
}

func request(authority, path string, fields ...string) *message.Head {
	h := &message.Head{Method: "GET", Scheme: "http", Authority: authority, Path: path}
	for i := 0; i+1 < len(fields); i += 2 {
		h.Fields.Append(fields[i], fields[i+1])
	}
	return h
}

func TestMatchDoesNotAllocate(t *testing.T) {
	cfg := large(t)
	for _, h := range []*message.Head{
		request("V7.Example", "/"), request("a.v7.example", "/"), request("v7.other", "/"),
		request("h", "/v1/x?q", "x-a", "aaa"), request("h", "/FOLD?q=1"), request("h", "/", "cookie", "a=b; sid=x"),
		request("h", "/hello/x", "x-n", "7"), request("h", "/none", "x-n", "many"),
	} {
		if n := testing.AllocsPerRun(100, func() { cfg.Match(&Request{Head: h}) }); n != 0 {
			t.Errorf("%s%s: %v allocations", h.Authority, h.Path, n)
		}
	}
}

// Constant header values cost nothing either.
func TestConstantHeadersDoNotAllocate(t *testing.T) {
	r := one(t, `request_headers_to_add: [{header: {key: x-a, value: v}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}],
		response_headers_to_remove: [x-b], route: {cluster: c}`)
	h, rec := request("h", "/"), &telemetry.Record{}
	r.ApplyRequest(h, nil, rec)
	if n := testing.AllocsPerRun(100, func() { r.ApplyRequest(h, nil, rec); r.ApplyResponse(h, nil, rec) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestParseInt(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "-10": -10, "+7": 7, " 5 ": 5, "9223372036854775807": 1<<63 - 1, "-9223372036854775808": -1 << 63} {
		if got, ok := parseInt(s); !ok || got != want {
			t.Errorf("parseInt(%q) = %d, %t", s, got, ok)
		}
	}
	for _, s := range []string{"", "-", "+-1", "1.0", "0x1", "9223372036854775808", "-9223372036854775809", "99999999999999999999", "1 2"} {
		if got, ok := parseInt(s); ok {
			t.Errorf("parseInt(%q) = %d", s, got)
		}
	}
}

// FuzzMatch: whatever a client sends, nothing panics; a route that is found does match, and what is sent on is well-formed.
func FuzzMatch(f *testing.F) {
	var configs []*Config
	for _, name := range []string{"hosts", "paths", "conditions", "rewrites", "headers", "redirects"} {
		for _, b := range readBlocks(f, "testdata/"+name+".txt") {
			if b.kind != "config" {
				continue
			}
			cfg, _, err := compileYAML(f, b.body())
			if err != nil {
				f.Fatal(err)
			}
			configs = append(configs, cfg)
		}
	}
	f.Add("GET", "shop.example:80", "/exact?q=1", "x-exact", "a", "b")
	f.Add("CONNECT", "[::1]:80", "", "cookie", "user=\"", ";;=;")
	f.Add("GET", "", "/root", "x-host", "a\r\n", "")
	f.Add("GET", ":", "/user/1?", "x-range", "-", "99999999999999999999")
	f.Add("POST", "*.example", "/\xff;?#", "content-type", "application/grpc+", "x")
	f.Fuzz(func(t *testing.T, method, authority, path, name, first, second string) {
		if path != "" && path[0] != '/' || name == "" {
			return // the codec or the exchange has refused it
		}
		for _, cfg := range configs {
			h := &message.Head{Method: method, Scheme: "http", Authority: authority, Path: path}
			h.Fields.Append(strings.ToLower(name), first)
			h.Fields.Append(strings.ToLower(name), second)
			r := cfg.Match(&Request{Head: h, Random: 1})
			if r == nil {
				continue
			}
			rec := &telemetry.Record{RequestHeaders: h}
			if r.Redirect != nil {
				if l := r.Redirect.Location(h); !strings.Contains(l, "://") {
					t.Errorf("location %q", l)
				}
				continue
			}
			if r.Forward == nil {
				continue
			}
			var choice *WeightedCluster
			if len(r.Forward.Clusters) > 0 {
				choice = r.Forward.Choose(uint64(len(path)))
			}
			r.ApplyRequest(h, choice, rec)
			if path != "" && !strings.HasPrefix(h.Path, "/") {
				t.Errorf("path %q became %q", path, h.Path)
			}
			if h.Authority != authority && strings.ContainsAny(h.Authority, "\r\n") {
				t.Errorf("authority became %q", h.Authority)
			}
			r.ApplyResponse(&message.Head{Status: 200}, choice, rec)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	cfg := large(b)
	for name, h := range map[string]*message.Head{
		"exact host": request("v7.example", "/"),
		"wildcard":   request("a.v7.example", "/"),
		"last route": request("h", "/hello/x"),
		"regex":      request("h", "/v1/x", "x-a", "aaa"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if cfg.Match(&Request{Head: h}) == nil {
					b.Fatal("no route")
				}
			}
		})
	}
}

// BenchmarkApplyRequest is what nearly all requests of a waypoint meet: no header operation and no rewrite.
func BenchmarkApplyRequest(b *testing.B) {
	r := one(b, `route: {cluster: c}`)
	h, rec := request("h", "/"), &telemetry.Record{}
	b.ReportAllocs()
	for b.Loop() {
		r.ApplyRequest(h, &r.Forward.Clusters[0], rec)
	}
}
