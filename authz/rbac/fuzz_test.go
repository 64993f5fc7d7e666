package rbac

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gowaypoint/gowaypoint/authz"
)

// FuzzCompile mutates rules and filters, in the wire format, and a request. Whatever compiles gives one verdict in both ways of
// asking, and a denial says which policy it was.
func FuzzCompile(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, b := range blocks(string(text)) {
			if !b.isConfig() {
				continue
			}
			m := parseBlock(f, b)
			wire, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(kinds[m.ProtoReflect().Descriptor().FullName()], wire, "GET", "/admin?x", "admin", "spiffe://cluster.local/ns/shop/sa/web")
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, wire []byte, method, path, header, principal string) {
		m := []proto.Message{&rbacv3.RBAC{}, &httpv3.RBAC{}, &networkv3.RBAC{}}[kind%3]
		if proto.Unmarshal(wire, m) != nil {
			return
		}
		filter, err := compileMessage(m)
		if (filter == nil) != (err != nil) {
			t.Fatalf("filter %v with error %v", filter, err)
		}
		if err != nil {
			return
		}
		if rules, ok := m.(*rbacv3.RBAC); ok && filter.Enforced.Len() != len(rules.GetPolicies()) {
			t.Fatalf("%d policies of %d", filter.Enforced.Len(), len(rules.GetPolicies()))
		}
		r := &authz.Request{
			HTTP: true, Method: method, Path: path, Authority: "h",
			Headers:     testHeaders{"x-role": strings.SplitN(header, "|", 3)},
			FilterState: testState{authz.PeerPrincipal: principal},
		}
		for _, set := range []*authz.PolicySet{filter.Enforced, filter.Shadow} {
			d, x := set.Decide(r), set.Explain(r)
			if d != x.Decision {
				t.Fatalf("Decide says %+v, Explain %+v", d, x.Decision)
			}
			if d.Allowed != (d.Details == "") || strings.ContainsAny(d.Details, " \t\r\n\v\f") {
				t.Fatalf("details %q of %+v", d.Details, d)
			}
		}
	})
}

// kinds are the messages that FuzzCompile makes.
var kinds = map[protoreflect.FullName]uint8{
	"envoy.config.rbac.v3.RBAC": 0, "envoy.extensions.filters.http.rbac.v3.RBAC": 1, "envoy.extensions.filters.network.rbac.v3.RBAC": 2,
}
