package authzcmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ask runs waypoint authz, and returns what it prints and its exit code.
func ask(t *testing.T, args ...string) (string, int) {
	t.Helper()
	var out, rest bytes.Buffer
	c := Command()
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&rest)
	err := c.Execute()
	var code exit
	switch {
	case err == nil:
		return out.String(), exitOK
	case errors.As(err, &code):
		return out.String(), int(code)
	}
	t.Logf("%v: %v%s", args, err, rest.String())
	return out.String(), exitError
}

// What diff says of a request, check says too, on both sides: the commands that it prints can be pasted.
func TestDiffAgreesWithCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const head = `
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop, labels: {istio.io/use-waypoint: waypoint}}
spec: {ports: [{name: http, port: 80}, {name: tcp, port: 5432}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: cart}]
  jwtRules: [{issuer: "https://issuer", jwksUri: "https://issuer/keys"}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: cart}]
  action: DENY
  rules:
  - to: [{operation: {paths: ["/admin*"]}}]
    when: [{key: destination.port, values: ["80"]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: cart}]
  rules:
`
	write("old dir/p.yaml", head+`
  - from: [{source: {principals: [cluster.local/ns/a/sa/x]}}]
    to: [{operation: {methods: [GET], hosts: [cart]}}]
  - from: [{source: {ipBlocks: [10.0.0.0/8]}}]
    to: [{operation: {ports: ["5432"]}}]
  - from: [{source: {requestPrincipals: ["https://issuer/ann"]}}]
  - when: [{key: "request.headers[x-team]", values: ["it's"]}]
`)
	write("new/p.yaml", head+`
  - from: [{source: {serviceAccounts: [a/x]}}]
    to: [{operation: {methods: [GET, POST], hosts: [cart, "cart:*"]}}]
  - from: [{source: {ipBlocks: [10.0.0.0/9], notNamespaces: [b]}}]
    to: [{operation: {ports: ["5432"]}}]
  - from: [{source: {requestPrincipals: ["https://issuer/*"]}}]
  - when: [{key: "request.headers[x-team]", values: ["it's", "o*"], notValues: [ops]}, {key: "request.auth.claims[groups]", notValues: [bad]}]
`)
	out, code := ask(t, "diff", "old dir", "new", "-o", "json")
	if code != exitDenied {
		t.Fatalf("exit %d: %s", code, out)
	}
	var report struct {
		Differences []struct {
			Targets  []string
			Protocol string
			Changes  []struct {
				Before, After struct{ Verdict string }
				Flags         []string
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	protocols, changes := []string{}, 0
	for _, d := range report.Differences {
		protocols = append(protocols, d.Protocol)
		for _, c := range d.Changes {
			changes++
			for _, side := range []struct{ files, verdict string }{{"old dir", c.Before.Verdict}, {"new", c.After.Verdict}} {
				want := map[string]int{"ALLOWED": exitOK, "DENIED": exitDenied}[side.verdict]
				got, code := ask(t, append([]string{"check", "-f", side.files, "--for", d.Targets[0]}, c.Flags...)...)
				if code != want {
					t.Errorf("diff says %s, check of %s with %s says %s", side.verdict, side.files, strings.Join(c.Flags, " "), got)
				}
			}
		}
	}
	if !slices.Equal(protocols, []string{"HTTP", "TCP"}) || changes < 5 {
		t.Errorf("%v, %d changes: %s", protocols, changes, out)
	}
}
