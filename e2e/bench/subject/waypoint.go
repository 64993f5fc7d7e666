package subject

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/bench/mesh"
)

// Waypoint is this project's proxy, started as its container is: `proxy waypoint` with the environment and files of Istio's
// template, discovery over a delta ADS stream, certificates from the mounted files of a SPIFFE provider.
func Waypoint(binary string) Subject {
	return Subject{Name: "waypoint", Start: func(ctx context.Context, s Setup) (Proxy, error) {
		r, err := s.Config.Resources()
		if err != nil {
			return nil, err
		}
		workloads := []mesh.Workload{{Name: "helloworld-1", Address: s.Config.Pod, Account: "helloworld", Canonical: "helloworld"}}
		if s.Client.IsValid() {
			workloads = append(workloads, mesh.Workload{Name: "client-1", Address: s.Client, Account: "client", Canonical: "client"})
		}
		control, err := mesh.NewControlPlane(r, workloads)
		if err != nil {
			return nil, err
		}
		p, err := startWaypoint(ctx, s, binary, control)
		if err != nil {
			control.Close()
			return nil, err
		}
		return p, nil
	}}
}

func startWaypoint(ctx context.Context, s Setup, binary string, control *mesh.ControlPlane) (Proxy, error) {
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	proxyConfig, err := json.Marshal(map[string]any{
		"discoveryAddress": control.Address(), "controlPlaneAuthPolicy": "NONE", "proxyAdminPort": ports[0], "statusPort": ports[1],
	})
	if err != nil {
		return nil, err
	}
	const certs = "var/run/secrets/workload-spiffe-credentials/"
	p, err := newProcess("waypoint", map[string][]byte{
		certs + "cert-chain.pem": s.Identity.CertPEM, certs + "key.pem": s.Identity.KeyPEM, certs + "root-cert.pem": s.RootPEM,
		"var/run/secrets/tokens/istio-token": []byte("not a token: nobody asks for one"),
		"etc/istio/pod/labels": []byte("gateway.networking.k8s.io/gateway-name=\"waypoint\"\n" +
			"gateway.istio.io/managed=\"istio.io-mesh-controller\"\n"),
	})
	if err != nil {
		return nil, err
	}
	p.onStop = control.Close
	level := s.LogLevel
	if level == "" {
		level = "warn"
	}
	cmd := exec.Command(binary, "proxy", "waypoint", "--domain", "default.svc.cluster.local", //nolint:gosec,noctx // our own; Stop ends it
		"--serviceCluster", "waypoint.default", "--proxyLogLevel", "warning", "--log_output_level", "default:"+level,
		"--concurrency", strconv.Itoa(s.workers()))
	// Nothing of this environment may change what is measured, a GOGC above all.
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GO") && !strings.HasPrefix(kv, "ISTIO") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "POD_NAME=waypoint-1", "POD_NAMESPACE=default", "SERVICE_ACCOUNT=waypoint", "INSTANCE_IP=127.0.0.1",
		"ISTIO_META_CLUSTER_ID=Kubernetes", "PROXY_CONFIG="+string(proxyConfig),
		fmt.Sprint("ENVOY_STATUS_PORT=", ports[2]), fmt.Sprint("ENVOY_PROMETHEUS_PORT=", ports[3]))
	w := &waypoint{process: p, admin: ports[0]}
	err = p.start(ctx, s, cmd, func(ctx context.Context) error {
		select {
		case nack := <-control.Rejected:
			return fmt.Errorf("it rejects the configuration: %s", nack)
		default:
		}
		return ready(ctx, fmt.Sprintf("http://127.0.0.1:%d/healthz/ready", ports[2]))
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

type waypoint struct {
	*process
	admin int
}

// Profile implements [Profiler] by the admin port.
func (w *waypoint) Profile(kind string, length time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), length+10*time.Second)
	defer cancel()
	url := fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/%s", w.admin, kind)
	if length > 0 {
		url += fmt.Sprintf("?seconds=%.0f", max(length.Seconds(), 1)) // pprof knows whole seconds only
	}
	return get(ctx, url)
}

func ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := get(ctx, url)
	return err
}

// get returns the body of a 200.
func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // read to its end
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(err, fmt.Errorf("%s: %s", resp.Status, body))
	}
	return body, err
}

// freePorts returns ports that nobody uses, all different. They are below those that the system gives to connections going out
// (from 32768 on, ip_local_port_range): such a port may be free now, and be taken by a test beside this one before the
// waypoint listens on it.
func freePorts(n int) ([]int, error) {
	const lowest, highest = 10_000, 32_000
	ports := make([]int, 0, n)
	for tries := 0; len(ports) < n; tries++ {
		if tries == 1000 {
			return nil, fmt.Errorf("no %d free ports between %d and %d", n, lowest, highest)
		}
		port := lowest + rand.IntN(highest-lowest)
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port)) // on all addresses, as the waypoint will
		if err != nil {
			continue
		}
		defer func() { _ = l.Close() }() // it was only to know the number
		ports = append(ports, port)
	}
	return ports, nil
}
