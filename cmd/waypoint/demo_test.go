package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo"
)

// The whole demo, in this process, over real sockets.
func TestDemoOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	err := demo.Once(ctx, demo.Options{AnyPort: true, Out: &out, Version: version, Admin: adminSources})
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
}

// output may be written and read at the same time.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) await(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(o.String(), text) {
			return
		}
	}
	t.Fatalf("never printed %q:\n%s", text, o.String())
}

// Manifests of a directory are taken, and taken again when they change; what is wrong with them does not end the demo.
func TestDemoReload(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"mesh.yaml", "policy.yaml"} {
		b, err := os.ReadFile(filepath.Join("internal/demo/default", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	out := &output{}
	ended := make(chan error, 1)
	go func() {
		ended <- demo.Run(ctx, demo.Options{Dir: dir, AnyPort: true, Out: out, Version: version, Admin: adminSources})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	out.await(t, "way in")
	_, after, _ := strings.Cut(out.String(), "way in   ")
	url := strings.Fields(after)[0] + "/hello"
	post := func() int {
		t.Helper()
		resp, err := http.Post(url, "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	if got := post(); got != 403 {
		t.Errorf("POST: %d, want 403", got)
	}
	out.await(t, `allow-get rule 0: header :method: wanted "GET", got "POST"`)

	policy := filepath.Join(dir, "policy.yaml")
	b, err := os.ReadFile(policy)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Replace(string(b), "methods:", "method:", 1))
	out.await(t, "document 1, AuthorizationPolicy default/allow-get: spec.rules[0].to[0].operation.method: no such field; did you mean methods?")
	if got := post(); got != 403 {
		t.Errorf("POST under a broken file: %d, want 403 as before", got)
	}
	write(strings.Replace(string(b), `["GET"]`, `["GET", "POST"]`, 1))
	out.await(t, "manifests in force: 3 services, 1 policies")
	if got := post(); got != 200 {
		t.Errorf("POST after it was allowed: %d, want 200", got)
	}

	// What only the waypoint finds out is taken back as a whole.
	route := filepath.Join(dir, "route.yaml")
	broken := strings.Replace(aRoute, "VALUE", "'/('", 1)
	if err := os.WriteFile(route, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	out.await(t, "the waypoint refuses it:")
	if got := post(); got != 200 {
		t.Errorf("POST after a refused configuration: %d, want 200 as before", got)
	}
	if err := os.WriteFile(route, []byte(strings.Replace(aRoute, "VALUE", "/nothing", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out.await(t, "1 policies, 1 routes")
	if got := post(); got != 404 {
		t.Errorf("POST without a route: %d, want 404", got)
	}
}

const aRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{group: "", kind: Service, name: helloworld}]
  rules:
  - matches: [{path: {type: RegularExpression, value: VALUE}}]
    backendRefs: [{name: helloworld, port: 5000}]
`
