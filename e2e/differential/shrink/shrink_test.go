package shrink_test

import (
	"strings"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"

	"github.com/gowaypoint/gowaypoint/e2e/differential/gen"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
	"github.com/gowaypoint/gowaypoint/e2e/differential/shrink"
)

// A fault that needs one header rule and one character of the path leaves no more than those.
func TestShrink(t *testing.T) {
	faulty := func(p shrink.Pair) bool {
		text := ""
		for _, f := range p.Set.Filters {
			text += f.Rules.String() + f.Shadow.String()
		}
		return strings.Contains(text, "uri_template") && strings.Contains(p.Request.Target, "%")
	}
	shrunk := 0
	for i := range uint64(200) {
		w := gen.New(13, i)
		s := w.Raw(false)
		p := shrink.Pair{Set: s, Request: w.Requests(s, 1)[0]}
		if !faulty(p) {
			continue
		}
		shrunk++
		got, err := shrink.Shrink(p, 50, func(candidates []shrink.Pair) (int, error) {
			if len(candidates) > 50 {
				t.Errorf("%d candidates at once", len(candidates))
			}
			for i, c := range candidates {
				if faulty(c) {
					return i, nil
				}
			}
			return -1, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !faulty(got) {
			t.Fatal("what is left does not fail")
		}
		if len(got.Request.Lines) > 0 || got.Request.Target != "/%" || got.Request.Claims != nil || size(got.Set) > 1 {
			t.Errorf("stream %d: left are %d policies, %+v", i, size(got.Set), got.Request)
		}
	}
	if shrunk < 5 {
		t.Errorf("only %d pairs to shrink", shrunk)
	}
}

// size counts policies.
func size(s *pair.Set) int {
	n := 0
	for _, f := range s.Filters {
		for _, rules := range []*rbacv3.RBAC{f.Rules, f.Shadow} {
			n += len(rules.GetPolicies())
		}
	}
	return n
}
