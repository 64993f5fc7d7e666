package istiod

import (
	"slices"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	"github.com/gowaypoint/gowaypoint/e2e/istiod/builder"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// rbacFilter makes a filter with one rule that lets a port in.
func rbacFilter(t *testing.T, name, key string, port uint32) builder.Filter {
	t.Helper()
	packed, err := anypb.New(&httprbacv3.RBAC{Rules: &rbacv3.RBAC{Policies: map[string]*rbacv3.Policy{key: {
		Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_DestinationPort{DestinationPort: port}}},
		Principals:  []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(packed)
	if err != nil {
		t.Fatal(err)
	}
	return builder.Filter{Name: name, Config: raw}
}

// The comparison says nothing about equal chains, and something about everything in which chains can differ.
func TestDifference(t *testing.T) {
	a, b := rbacFilter(t, "one", "key", 80), rbacFilter(t, "two", "key", 81)
	for _, c := range []struct {
		what         string
		istiod, ours []builder.Filter
		differ       bool
	}{
		{"nothing", nil, nil, false},
		{"the same", []builder.Filter{a, b}, []builder.Filter{rbacFilter(t, "one", "key", 80), b}, false},
		{"one missing", []builder.Filter{a, b}, []builder.Filter{a}, true},
		{"all missing", []builder.Filter{a}, nil, true},
		{"one more", nil, []builder.Filter{a}, true},
		{"another order", []builder.Filter{a, b}, []builder.Filter{b, a}, true},
		{"another name", []builder.Filter{a}, []builder.Filter{rbacFilter(t, "uno", "key", 80)}, true},
		{"another key", []builder.Filter{a}, []builder.Filter{rbacFilter(t, "one", "other", 80)}, true},
		{"another value", []builder.Filter{a}, []builder.Filter{rbacFilter(t, "one", "key", 8080)}, true},
	} {
		diff, err := difference(c.istiod, c.ours)
		if err != nil || (diff != "") != c.differ {
			t.Errorf("%s: %v\n%s", c.what, err, diff)
		}
	}
	if _, err := difference([]builder.Filter{{Name: "one", Config: slices.Concat(a.Config, []byte{0xff})}}, nil); err == nil {
		t.Error("a filter that cannot be read is no error")
	}
}
