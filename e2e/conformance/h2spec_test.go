package conformance

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/bench/mesh"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// exception is a case of h2spec that does not pass, and need not.
type exception struct {
	id     string // "http2/5.1.1/2": h2spec's name of the case
	actual string // how it ends: "skipped", or a part of h2spec's complaint
	reason string // the words of RFC 9113 that allow it
}

// onHBONE and inTunnel are all exceptions.
var (
	onHBONE  = []exception{}
	inTunnel = []exception{{
		id:     "http2/3.5/2",
		actual: "the frame header looked like an HTTP/1.1 header",
		reason: `3.4: "A GOAWAY frame (Section 6.8) MAY be omitted in this case, since an invalid preface indicates that the peer is ` +
			`not using HTTP/2." A port of the mesh that takes HTTP takes HTTP/1.1 as well, without TLS and so without ALPN (3.3, prior ` +
			`knowledge): what does not begin with the preface is HTTP/1.1, is answered with an HTTP/1.1 400 since it is no request ` +
			`either, and the connection is closed. h2spec takes the answer for a frame.`,
	}}
)

// Every case of h2spec, with the strict ones, on the HBONE port.
//
// What h2spec asks for is not CONNECT, and nothing else has a route there: the answer would be a 404 without a body, before the
// request has ended. Nine cases need a body in the answer or a request that is still under way. So one route more leads to the
// service.
func TestH2specOnTheHBONEPort(t *testing.T) {
	n := startEdited(t, ours(t), "127.9.21", httpApp, func(r *mesh.Resources) {
		withoutPolicy(r)
		added := 0
		r.EachObject(func(o map[string]any) {
			if o["stat_prefix"] != "connect_terminate" {
				return
			}
			hosts := o["route_config"].(map[string]any)["virtual_hosts"].([]any)
			host := hosts[0].(map[string]any)
			host["routes"] = append(host["routes"].([]any), map[string]any{
				"match": map[string]any{"prefix": "/"}, "route": map[string]any{"cluster": "inbound-vip|8080|http|helloworld.default.svc.cluster.local"}})
			added++
		})
		if added != 1 {
			t.Errorf("%d places for the route", added)
		}
	})
	dir := t.TempDir()
	c := &config.Config{
		Host: n.config.Listen.String(), Port: 15008, TLS: true, Insecure: true,
		CertFile: filepath.Join(dir, "cert.pem"), CertKeyFile: filepath.Join(dir, "key.pem"),
	}
	must(t, os.WriteFile(c.CertFile, n.client.CertPEM, 0o600))
	must(t, os.WriteFile(c.CertKeyFile, n.client.KeyPEM, 0o600))
	runH2spec(t, c, onHBONE)
}

// The same on HTTP/2 that a client speaks inside its tunnel, with an HTTP/1.1 server at the far end.
func TestH2specInsideATunnel(t *testing.T) {
	n := start(t, ours(t), "127.9.22", httpApp)
	addr := n.forward()
	runH2spec(t, &config.Config{Host: addr.Addr().String(), Port: int(addr.Port())}, inTunnel)
}

// runH2spec runs each case on a connection of its own. h2spec's own runner prints to standard output and ends the process when
// it cannot connect; the cases are all that is used of it.
func runH2spec(t *testing.T, c *config.Config, exceptions []exception) {
	c.Path, c.Timeout, c.MaxHeaderLen, c.Strict = "/", 3*time.Second, 4000, true
	count, seen := 0, map[string]bool{}
	t.Run("cases", func(t *testing.T) {
		for _, g := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
			eachCase(g, func(id string, tc *spec.TestCase) {
				count++
				seen[id] = true
				t.Run(id, func(t *testing.T) {
					t.Parallel()
					check(t, id, tc, runCase(c, tc), exceptions)
				})
			})
		}
	})
	if count < 140 {
		t.Errorf("only %d cases of h2spec", count)
	}
	for _, e := range exceptions {
		if !seen[e.id] {
			t.Errorf("h2spec has no case %s: the table of exceptions is out of date", e.id)
		}
	}
}

// eachCase calls f for the cases of a group, in h2spec's order, with their names.
func eachCase(g *spec.TestGroup, f func(id string, tc *spec.TestCase)) {
	for i, tc := range slices.Concat(g.Tests, g.StrictTests) {
		f(fmt.Sprintf("%s/%d", g.ID(), i+1), tc)
	}
	for _, sub := range g.Groups {
		eachCase(sub, f)
	}
}

func runCase(c *config.Config, tc *spec.TestCase) error {
	own := *c // it is written to
	conn, err := spec.Dial(&own)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }() // most cases end with it closed
	return tc.Run(&own, conn)
}

func check(t *testing.T, id string, tc *spec.TestCase, err error, exceptions []exception) {
	t.Helper()
	what := "passed"
	switch {
	case errors.Is(err, spec.ErrSkipped):
		what = "skipped"
	case err != nil:
		what = err.Error()
	}
	i := slices.IndexFunc(exceptions, func(e exception) bool { return e.id == id })
	switch {
	case i >= 0 && !strings.Contains(what, exceptions[i].actual):
		t.Errorf("%s (%s): %s; the table of exceptions has %q", tc.Desc, tc.Requirement, what, exceptions[i].actual)
	case i < 0 && err != nil:
		t.Errorf("%s (%s): %s", tc.Desc, tc.Requirement, what)
	}
}

// httpApp is the application: it answers anything with a body.
func httpApp(c net.Conn) {
	l := &oneConn{c: make(chan net.Conn, 1)}
	l.c <- c
	_ = (&http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "hello\n")
	})}).Serve(l) // ends with the process, as l does
}

// oneConn is a listener for one connection. It never ends: the connection's goroutine belongs to the server.
type oneConn struct{ c chan net.Conn }

func (l *oneConn) Accept() (net.Conn, error) { return <-l.c, nil }
func (l *oneConn) Close() error              { return nil }
func (l *oneConn) Addr() net.Addr            { return &net.TCPAddr{} }
