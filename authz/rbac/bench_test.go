package rbac

import (
	"fmt"
	"runtime"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/authz"
)

// BenchmarkCompile is what a push of 100,000 policies costs: 10,000 objects of ten rules each, of a principal and a path as istiod
// writes them. It is also what an object that asks for namespaces costs, which is an expression to read.
func BenchmarkCompile(b *testing.B) {
	for name, c := range map[string]struct{ path, principal string }{
		"principals-and-paths": {`{"exact": "/service%d/%d"}`, `{"exact": "spiffe://cluster.local/ns/shop/sa/client%d"}`},
		"namespaces":           {`{"prefix": "/service%d/%d"}`, `{"safe_regex": {"regex": ".*/ns/ns%d/.*"}}`},
	} {
		b.Run(name, func(b *testing.B) {
			rules := push(b, c.path, c.principal)
			before := heap()
			var set *authz.PolicySet
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if set, err = Compile(rules); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(heap()-before), "retained-B")
			runtime.KeepAlive(rules)
			runtime.KeepAlive(set)
		})
	}
}

// pushes are those made so far: with -count each benchmark runs several times, and they take longer to make than to compile.
var pushes = map[string]*rbacv3.RBAC{}

func push(b *testing.B, path, principal string) *rbacv3.RBAC {
	if rules := pushes[path]; rules != nil {
		return rules
	}
	rules := &rbacv3.RBAC{Policies: map[string]*rbacv3.Policy{}}
	for i := range 10_000 {
		for rule := range 10 {
			rules.Policies[fmt.Sprintf("ns[shop]-policy[p%d]-rule[%d]", i, rule)] = parse(b, &rbacv3.Policy{}, fmt.Sprintf(`{
				"permissions": [{"and_rules": {"rules": [{"or_rules": {"rules": [{"url_path": {"path": `+path+`}}]}}]}}],
				"principals": [{"and_ids": {"ids": [{"or_ids": {"ids": [{"filter_state": {"key": "io.istio.peer_principal",
					"string_match": `+principal+`}}]}}]}}]}`, i, rule, i))
		}
	}
	wire, err := proto.Marshal(rules)
	if err != nil {
		b.Fatal(err)
	}
	rules = &rbacv3.RBAC{}
	if err := proto.Unmarshal(wire, rules); err != nil { // the strings are then as they come from a push
		b.Fatal(err)
	}
	pushes[path] = rules
	return rules
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
