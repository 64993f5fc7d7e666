package rbac

import (
	"fmt"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
)

// BenchmarkCompile is what a push of 10,000 policies costs.
func BenchmarkCompile(b *testing.B) {
	rules := &rbacv3.RBAC{Policies: map[string]*rbacv3.Policy{}}
	for i := range 10_000 {
		rules.Policies[fmt.Sprintf("ns[shop]-policy[p%d]-rule[0]", i)] = parse(b, &rbacv3.Policy{}, fmt.Sprintf(`{
			"permissions": [{"and_rules": {"rules": [
				{"or_rules": {"rules": [{"header": {"name": ":method", "string_match": {"exact": "GET"}}}]}},
				{"or_rules": {"rules": [{"url_path": {"path": {"prefix": "/service%d/"}}}]}}]}}],
			"principals": [{"and_ids": {"ids": [{"or_ids": {"ids": [{"filter_state": {"key": "io.istio.peer_principal",
				"string_match": {"safe_regex": {"regex": ".*/ns/ns%d/.*"}}}}]}}]}}]}`, i, i))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(rules); err != nil {
			b.Fatal(err)
		}
	}
}
