package lint_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/authz/x/lint"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// BenchmarkThousand looks at a thousand policies of one target.
func BenchmarkThousand(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, `---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p%d, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: cart}]
  action: %s
  rules:
  - from: [{source: {principals: [cluster.local/ns/n%d/sa/a%d]}}]
    to: [{operation: {methods: [GET], paths: ["/p%d/*", /q%d]}}]
`, i, map[bool]string{true: "DENY", false: "ALLOW"}[i%3 == 0], i%50, i, i, i)
	}
	set, err := manifest.Read([]manifest.Source{{Name: "policies.yaml", Data: []byte(text.String())}}, manifest.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		lint.Check(set, lint.Options{})
	}
}
