//go:build !race

package authz_test

import (
	"testing"

	"github.com/gowaypoint/gowaypoint/authz"
)

// The race detector makes sync.Pool drop buffers on purpose, hence the build constraint.
func TestDecideDoesNotAllocate(t *testing.T) {
	all := everythingRequest(t)
	for name, c := range map[string]struct {
		set  *authz.PolicySet
		r    *authz.Request
		want string
	}{
		"get only":   {getOnly(t), request, "ns[default]-policy[allow-get]-rule[0]"},
		"many":       {many(t, 10), request, "ns[shop]-policy[p00009]-rule[0]"},
		"everything": {everything(t), all, "all"},
	} {
		if d := c.set.Decide(c.r); d.Policy != c.want {
			t.Errorf("%s: %+v\n%s", name, d, c.set.Explain(c.r))
		}
		if n := testing.AllocsPerRun(100, func() { c.set.Decide(c.r) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
