//go:build envoy

package accesslog

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	// The types that the configuration names, for the control plane's reading of it.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/cel/v3"

	"github.com/gowaypoint/gowaypoint/e2e/bench/backend"
	"github.com/gowaypoint/gowaypoint/e2e/bench/load"
	"github.com/gowaypoint/gowaypoint/e2e/bench/mesh"
	"github.com/gowaypoint/gowaypoint/e2e/bench/subject"
)

// operatorFile lists the operators, one a line, in sections by what is asked of them.
const operatorFile = "testdata/operators.txt"

// class is what is asked of an operator.
type class string

const (
	equal   class = "equal"   // the same value
	varies  class = "varies"  // a time, an id, a port: both have one or neither has
	differs class = "differs" // another value for at least one of the requests, for the reason that the file gives
)

func operators(t *testing.T) map[string]class {
	t.Helper()
	f, err := os.Open(operatorFile)
	must(t, err)
	defer func() { _ = f.Close() }() // read only
	all := map[string]class{}
	var section class
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		switch name, isSection := strings.CutPrefix(line, "== "); {
		case isSection:
			section = class(name)
		case line == "" || strings.HasPrefix(line, "#"):
		default:
			all["%"+line+"%"] = section
		}
	}
	if len(all) < 150 {
		t.Fatalf("only %d operators in %s", len(all), operatorFile)
	}
	return all
}

// The same requests give the same lines: one that is served, with and without a query, one that policy refuses, and one whose
// backend goes away.
func TestSameLinesAsEnvoy(t *testing.T) {
	ops := operators(t)
	theirs := lines(t, subject.Envoy(""), "127.9.1", ops)
	ours := lines(t, subject.Waypoint(built(t)), "127.9.1", ops)
	if len(theirs) != 4 || !slices.Equal(slices.Sorted(maps.Keys(theirs)), slices.Sorted(maps.Keys(ours))) {
		t.Fatalf("requests logged by Envoy %q, by us %q", slices.Sorted(maps.Keys(theirs)), slices.Sorted(maps.Keys(ours)))
	}
	for op, class := range ops {
		same := true
		for path := range theirs {
			a, b := theirs[path][op], ours[path][op]
			switch {
			case class == varies && (a == nil) != (b == nil), class == equal && !reflect.DeepEqual(a, b):
				t.Errorf("%s of %s is %s, Envoy has %s", op, path, text(b), text(a))
			case !reflect.DeepEqual(a, b):
				same = false
			}
		}
		if class == differs && same {
			t.Errorf("%s does not differ: move it to another section of %s", op, operatorFile)
		}
	}
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// lines sends the requests through a proxy and returns the logged objects of those inside the tunnel, by path.
func lines(t *testing.T, s subject.Subject, network string, ops map[string]class) map[string]map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ca, err := mesh.NewCA()
	must(t, err)
	issue := func(account string) *mesh.Identity {
		id, err := ca.Issue("default", account)
		must(t, err)
		return id
	}
	client, pod, waypoint := issue("client"), issue("helloworld"), issue("waypoint")
	file := filepath.Join(t.TempDir(), "log")
	config := mesh.Config{
		Listen: netip.MustParseAddr(network + ".3"), VIP: netip.MustParseAddr("10.96.0.1"), Pod: netip.MustParseAddr(network + ".2"),
		Edit: func(r *mesh.Resources) { logTo(r, file, ops) },
	}
	b, err := backend.Start(network+".2:15008", network+".2:8080", pod.TLS(waypoint.SPIFFE))
	must(t, err)
	defer b.Close()
	p, err := s.Start(ctx, subject.Setup{Config: config, Identity: waypoint, RootPEM: ca.RootPEM, Client: netip.MustParseAddr(network + ".1")})
	must(t, err)
	target := load.Target{
		Addr: config.Address(), TLS: client.TLS(waypoint.SPIFFE), Authority: config.Authority(), Service: "helloworld:8080",
		Local: &net.TCPAddr{IP: net.ParseIP(network + ".1")},
	}
	c, err := load.Dial(ctx, target)
	must(t, err)
	do := func(r *load.Request, wanted bool) {
		t.Helper()
		tunnel, err := c.Tunnel()
		must(t, err)
		if err := tunnel.Do(r); (err == nil) != wanted {
			t.Errorf("%q: %v", r.Bytes, err)
		}
		_ = tunnel.Close() // the answer has come
	}
	do(target.Get("/", 500), true)
	do(target.Get("/bytes/100", 100), true)
	do(target.Refused("/refused?a=1&b=%20x"), true)
	do(target.Get("/gone?a=1&b=%20x", 0), false) // the backend resets its tunnel, and the answer is a 503
	time.Sleep(1500 * time.Millisecond)          // both proxies write at least once a second
	c.Close()
	must(t, p.Stop())
	return read(t, file)
}

func read(t *testing.T, file string) map[string]map[string]any {
	t.Helper()
	content, err := os.ReadFile(file) //nolint:gosec // of this test
	must(t, err)
	out := map[string]map[string]any{}
	for line := range strings.SplitSeq(strings.TrimSpace(string(content)), "\n") {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("not JSON: %v: %s", err, line)
		}
		if path, ok := o["%PATH(NQ)%"].(string); ok {
			out[path] = o
		}
	}
	return out
}

// logTo makes every connection manager log to a file, one key per operator.
func logTo(r *mesh.Resources, file string, ops map[string]class) {
	format := map[string]any{}
	for op := range ops {
		format[op] = op
	}
	r.EachObject(func(o map[string]any) {
		if url, _ := o["@type"].(string); !strings.HasSuffix(url, ".HttpConnectionManager") {
			return
		}
		o["access_log"] = []any{map[string]any{"name": "file", "typed_config": map[string]any{
			"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": file,
			"log_format": map[string]any{"json_format": format},
		}}}
	})
}

// override is the environment variable that names a waypoint that is built already, as ENVOY_BINARY names an Envoy.
const override = "WAYPOINT_BINARY"

// built compiles the waypoint.
func built(t *testing.T) string {
	t.Helper()
	if path := os.Getenv(override); path != "" {
		return path
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	root, err := subject.Root(ctx)
	must(t, err)
	binary := filepath.Join(t.TempDir(), "waypoint")
	must(t, subject.Build(ctx, root, "./cmd/waypoint", binary))
	return binary
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", t.Name(), err))
	}
}
