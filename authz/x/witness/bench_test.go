package witness_test

import (
	"fmt"
	"testing"

	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/witness"
)

// BenchmarkThousand makes the requests of a thousand policies.
func BenchmarkThousand(b *testing.B) {
	var specs []string
	for i := range 1000 {
		action := "ALLOW"
		if i%3 == 0 {
			action = "DENY"
		}
		specs = append(specs, fmt.Sprintf(`{action: %s, rules: [{from: [{source: {principals: [cluster.local/ns/n%d/sa/a%d]}}], to: [{operation: {methods: [GET], paths: ["/p%d/*", /q%d]}}]}]}`, action, i%50, i, i, i))
	}
	p := policies(b, specs...)
	for b.Loop() {
		b.Log(of(b, p, witness.Options{Paths: pathnorm.Base}).Coverage)
	}
}
