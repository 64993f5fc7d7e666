package rbac

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/authz"
)

// FuzzCompile mutates rules, in the wire format, and a request. Whatever compiles gives one verdict in both ways of
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
		for _, block := range strings.Split(string(text), "\nrules:\n")[1:] {
			block, _, _ = strings.Cut(block, "\n\n")
			block, _, _ = strings.Cut(block, "\n=>")
			wire, err := proto.Marshal(parseRules(f, block))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(wire, "GET", "/admin?x", "admin", "spiffe://cluster.local/ns/shop/sa/web")
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte, method, path, header, principal string) {
		var rules rbacv3.RBAC
		if proto.Unmarshal(wire, &rules) != nil {
			return
		}
		set, err := Compile(&rules)
		if (set == nil) != (err != nil) {
			t.Fatalf("set %v with error %v", set, err)
		}
		if err != nil {
			return
		}
		if set.Len() != len(rules.GetPolicies()) {
			t.Fatalf("%d policies of %d", set.Len(), len(rules.GetPolicies()))
		}
		r := &authz.Request{
			HTTP: true, Method: method, Path: path, Authority: "h",
			Headers:     testHeaders{"x-role": strings.SplitN(header, "|", 3)},
			FilterState: testState{authz.PeerPrincipal: principal},
		}
		d, x := set.Decide(r), set.Explain(r)
		if d != x.Decision {
			t.Fatalf("Decide says %+v, Explain %+v", d, x.Decision)
		}
		if d.Allowed != (d.Details == "") || strings.ContainsAny(d.Details, " \t\r\n\v\f") {
			t.Fatalf("details %q of %+v", d.Details, d)
		}
	})
}
