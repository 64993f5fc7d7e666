package bootstrap

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	meshv1 "istio.io/api/mesh/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// section is one `-- name --` part of a fixture.
type section struct{ name, text string }

func parseFixture(text string) (out []section) {
	out = append(out, section{})
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(name, " --") {
			out = append(out, section{name: strings.TrimSuffix(name, " --")})
			continue
		}
		out[len(out)-1].text += line
	}
	return out
}

// Each fixture in testdata begins with prose; sections `args` (one per line) and `env` and any file, by its
// path under the root, are input; `node`, `settings`, `reports` or `error` are the expected output.
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			o := Options{Root: t.TempDir(), Version: "0.1.0", Interfaces: func() ([]net.Addr, error) {
				return []net.Addr{
					&net.IPNet{IP: net.IPv4(127, 0, 0, 1)}, &net.IPNet{IP: net.ParseIP("10.244.1.7")},
					&net.IPNet{IP: net.ParseIP("fe80::1")}, &net.IPNet{IP: net.ParseIP("fd00::7")},
				}, nil
			}}
			var input strings.Builder
			for i, s := range parseFixture(string(raw)) {
				switch s.name {
				case "node", "settings", "reports", "error":
					continue
				case "":
				case "args":
					for line := range strings.Lines(s.text) {
						o.Args = append(o.Args, strings.Trim(strings.TrimSuffix(line, "\n"), `"`))
					}
				case "env":
					for line := range strings.Lines(s.text) {
						o.Env = append(o.Env, strings.TrimSuffix(line, "\n"))
					}
				default:
					path := filepath.Join(o.Root, s.name)
					if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(s.text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if i > 0 {
					fmt.Fprintf(&input, "-- %s --\n", s.name)
				}
				input.WriteString(s.text)
			}
			got := input.String() + strings.ReplaceAll(render(t, o), o.Root, "ROOT")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if got != string(raw) {
				t.Errorf("got\n%s", got)
			}
		})
	}
}

func render(t *testing.T, o Options) string {
	b, err := Load(o)
	if err != nil {
		return "-- error --\n" + strings.ReplaceAll(err.Error(), "\u00a0", " ") + "\n" // protobuf's errors vary their spaces on purpose
	}
	js, err := protojson.Marshal(b.Node)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, canonical(t, js), "", "  "); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "-- node --\n%s\n-- settings --\n", pretty.String())
	id := b.Identity
	fmt.Fprintf(&out, "discovery %s as %s plaintext=%v cluster=%s headers=%v keepalive=%v/%v root=%q\n", b.Discovery.Address, b.Discovery.ServerName,
		b.Discovery.Plaintext, b.Discovery.ClusterID, b.Discovery.Headers, b.Discovery.KeepaliveInterval, b.Discovery.KeepaliveTimeout, b.Discovery.RootCA)
	fmt.Fprintf(&out, "token %s\n", b.Discovery.TokenFile)
	fmt.Fprintf(&out, "ca %s as %s headers=%v identity=%s/%s/%s key=%+v ttl=%v grace=%g±%g mounted=%v output=%q\n", id.CSR.Address, id.CSR.ServerName,
		id.CSR.Headers, id.CSR.TrustDomain, id.CSR.Namespace, id.CSR.ServiceAccount, id.CSR.Key, id.CSR.TTL, id.CSR.GraceRatio, id.CSR.GraceJitter, id.FileMounted, id.OutputDir)
	fmt.Fprintf(&out, "ports %+v\ndrain %+v\nconcurrency %d keepFragment %v compliance %q extraAnchors %d\n", b.Ports, b.Drain, b.Concurrency, b.KeepFragment, b.CompliancePolicy, len(b.ExtraAnchors))
	fmt.Fprintf(&out, "stats %+v\n", b.Stats)
	fmt.Fprintf(&out, "log %q components %q agent %q json=%v\n", b.Flags.ProxyLogLevel, b.Flags.ProxyComponentLogLevel, b.Flags.LogOutputLevel, b.Flags.LogAsJSON)
	out.WriteString("-- reports --\n")
	for _, r := range b.Reports {
		fmt.Fprintln(&out, r)
	}
	return out.String()
}

// canonical orders members and drops protojson's random spacing.
func canonical(t *testing.T, js []byte) []byte {
	var v any
	if err := json.Unmarshal(js, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A ProxyConfig field that a new version of the API adds must be decided here before it is shipped.
func TestEveryProxyConfigFieldHasAFate(t *testing.T) {
	fields := (&meshv1.ProxyConfig{}).ProtoReflect().Descriptor().Fields()
	known := map[string]bool{}
	for i := range fields.Len() {
		name := string(fields.Get(i).Name())
		known[name] = true
		if _, ok := proxyConfigFate[name]; !ok {
			t.Errorf("ProxyConfig.%s is not in proxyConfigFate", name)
		}
	}
	for name := range proxyConfigFate {
		if !known[name] {
			t.Errorf("%s is no field of ProxyConfig", name)
		}
	}
}

func TestParseFlags(t *testing.T) {
	for _, tc := range []struct {
		args string // separated by "|"
		want func(Flags) bool
		rep  int
		err  string
	}{
		{args: "proxy|waypoint|--proxyComponentLogLevel||--log_as_json", want: func(f Flags) bool { return f.ProxyComponentLogLevel == "" && f.LogAsJSON && f.Role == "waypoint" }},
		{args: "waypoint|--domain=a.svc|--concurrency|3", want: func(f Flags) bool { return f.Domain == "a.svc" && f.Concurrency == 3 }},
		{args: "proxy|--unknown|value|waypoint|--other=1", want: func(f Flags) bool { return f.Role == "waypoint" }, rep: 2},
		{args: "proxy|sidecar", err: `role "sidecar" is not supported`},
		{args: "proxy", err: `role "" is not supported`},
		{args: "waypoint|extra", err: "unexpected argument"},
		{args: "waypoint|--concurrency=-1", err: "want a number"},
		{args: "waypoint|--domain", err: "needs a value"},
		{args: "waypoint|--profiling=false", want: func(Flags) bool { return true }, rep: 1},
	} {
		f, rep, err := ParseFlags(strings.Split(tc.args, "|"))
		switch {
		case tc.err != "":
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: error %v, want %q", tc.args, err, tc.err)
			}
		case err != nil:
			t.Errorf("%s: %v", tc.args, err)
		case !tc.want(f) || len(rep) != tc.rep:
			t.Errorf("%s: %+v %v", tc.args, f, rep)
		}
	}
}
