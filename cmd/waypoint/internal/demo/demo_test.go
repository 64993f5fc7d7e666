package demo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"
	"github.com/gowaypoint/gowaypoint/waypoint"
	"github.com/gowaypoint/gowaypoint/waypoint/admin"
	"github.com/gowaypoint/gowaypoint/waypoint/bootstrap"
)

func options(out *bytes.Buffer) Options {
	return Options{
		AnyPort: true, Out: out, Version: "0.1.0", Log: slog.New(slog.DiscardHandler),
		Admin: func(s *waypoint.Server, _ []bootstrap.Report, level *slog.LevelVar, _ func()) admin.Sources {
			return admin.Sources{Node: s.Node(), XDS: s.XDS(), Registry: s.Registry(), Level: level, Ready: s.Ready}
		},
	}
}

// A table that expects what the policies do not give fails, whichever column is wrong.
func TestOnceNoticesWhatIsUnexpected(t *testing.T) {
	wrong := []probe{refused("GET"), passes("POST"), get("v9"), refused("POST")}
	wrong[3].wantDetails = "rbac_access_denied_matched_policy[another]"
	var out bytes.Buffer
	err := once(context.Background(), options(&out), []step{{title: "wrong", probes: wrong}})
	if !errors.Is(err, ErrUnexpected) {
		t.Errorf("error %v", err)
	}
	for _, want := range []string{
		"UNEXPECTED: status 200, want 403", "UNEXPECTED: status 403, want 200", `want "Hello version: v9"`,
		`want "rbac_access_denied_matched_policy[another]"`, "0 of 4 as expected",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not printed: %s", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

const tcpMesh = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo, labels: {istio.io/use-waypoint: waypoint}}
spec: {selector: {app: echo}, ports: [{name: tcp, port: 9000}, {name: any, port: 7000}]}
---
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec: {containers: [{name: echo}]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: good}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: bad}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: good-only}
spec:
  targetRefs: [{kind: Service, name: echo}]
  rules: [{from: [{source: {serviceAccounts: [good]}}]}]
`

// TCP goes the same way, on a declared port and on a sniffed one, through HBONE and to a pod outside of the mesh.
func TestTCP(t *testing.T) {
	for _, mode := range []string{"ambient", "none"} {
		t.Run(mode, func(t *testing.T) {
			text := strings.Replace(tcpMesh, "{app: echo}}\nspec: {containers", "{app: echo, istio.io/dataplane-mode: "+mode+"}}\nspec: {containers", 1)
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			s, err := start(ctx, options(&bytes.Buffer{}), []manifests.File{{Name: "tcp.yaml", Data: []byte(text)}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, port := range []uint16{9000, 7000} {
				if got, err := s.echo(ctx, t, "good", port); err != nil || got != "hello me\n" {
					t.Errorf("port %d, good: %q, %v", port, got, err)
				}
				if got, err := s.echo(ctx, t, "bad", port); err == nil {
					t.Errorf("port %d, bad: %q came through", port, got)
				}
			}
		})
	}
}

func (s *stack) echo(ctx context.Context, t *testing.T, account string, port uint16) (string, error) {
	t.Helper()
	mesh := s.mesh.Load()
	as, err := caller(mesh, account)
	if err != nil {
		t.Fatal(err)
	}
	target := netip.AddrPortFrom(mesh.Service("default", "echo").VIP, port)
	identity := manifests.Account(mesh.Waypoint).Principal()
	c, err := s.client.Tunnel(ctx, as, netip.AddrPortFrom(s.address, 15008), identity, target.String())
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	if _, err := fmt.Fprintln(c, "me"); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

func TestDestinationNames(t *testing.T) {
	mesh, err := manifests.Load([]manifests.File{{Name: "tcp.yaml", Data: []byte(tcpMesh)}})
	if err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		"": "echo:9000", "echo": "echo:9000", "echo:7000": "echo:7000", "echo.default": "echo:9000", "echo.default.svc:7000": "echo:7000",
		"echo.default.svc.cluster.local": "echo:9000", "echo.other": "", "ech": "", "echo.def": "", "echo:http": "",
	} {
		got := ""
		if s, port, err := destination(mesh, to); err == nil {
			got = fmt.Sprintf("%s:%d", s.Name, port)
		}
		if got != want {
			t.Errorf("%q leads to %q, want %q", to, got, want)
		}
	}
}
