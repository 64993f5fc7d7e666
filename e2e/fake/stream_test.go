package fake

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

const interopService = `
apiVersion: v1
kind: Service
metadata: {name: interop}
spec:
  clusterIP: 10.96.0.50
  selector: {app: interop}
  ports:
  - {name: grpc, port: 80, targetPort: 9000}
  - {name: any, port: 81, targetPort: 9000}
---
apiVersion: v1
kind: Pod
metadata:
  name: interop
  labels: {app: interop}
  annotations: {ambient.istio.io/redirection: enabled}
spec:
  serviceAccountName: interop
  containers: [{name: app, image: interop, ports: [{containerPort: 9000}]}]
status: {podIP: 10.244.0.50}
`

// grpc's own interoperability tests, its client and its server with the waypoint between them, on a declared port and on one
// whose protocol is found out.
func TestGRPCInterop(t *testing.T) {
	t.Parallel()
	m := Start(t, Options{Manifests: interopService, Images: map[string]Image{"interop": func(_ *Pod, l net.Listener) {
		s := grpc.NewServer()
		testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
		_ = s.Serve(l) // ends with the listener
	}}})
	for _, addr := range []string{"10.96.0.50:80", "10.96.0.50:81"} {
		conn, err := grpc.NewClient("passthrough:///interop", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return m.Client("sleep").Tunnel(ctx, addr) }))
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		c := testgrpc.NewTestServiceClient(conn)
		// Each of these ends the process on failure, after saying which expectation of the interop specification was missed.
		interop.DoEmptyUnaryCall(ctx, c)
		interop.DoLargeUnaryCall(ctx, c)
		interop.DoClientStreaming(ctx, c)
		interop.DoServerStreaming(ctx, c)
		interop.DoPingPong(ctx, c)
		interop.DoEmptyStream(ctx, c)
		interop.DoTimeoutOnSleepingServer(ctx, c)
		interop.DoCancelAfterBegin(ctx, c)
		interop.DoCancelAfterFirstResponse(ctx, c)
		interop.DoCustomMetadata(ctx, c)
		interop.DoStatusCodeAndMessage(ctx, c)
		interop.DoSpecialStatusMessage(ctx, c)
		interop.DoUnimplementedMethod(ctx, conn)
		cancel()
		must(t, conn.Close())
	}
	if n := m.Pods["interop"].Tunnels.Load(); n == 0 {
		t.Error("the pod was not reached through HBONE")
	}
}

const bulkService = `
apiVersion: v1
kind: Service
metadata: {name: bulk}
spec:
  clusterIP: 10.96.0.51
  selector: {app: bulk}
  ports:
  - {name: http, port: 80}
  - {name: http2, port: 81, targetPort: 80}
  - {name: tcp, port: 90, targetPort: 80}
---
apiVersion: v1
kind: Pod
metadata:
  name: bulk
  labels: {app: bulk}
  annotations: {ambient.istio.io/redirection: enabled}
spec:
  containers: [{name: app, image: bulk, ports: [{containerPort: 80}]}]
status: {podIP: 10.244.0.51}
`

// 100 MB up and 100 MB down arrive whole, over HTTP/1.1, over HTTP/2, and as bytes of a TCP connection.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	const size = 100 << 20
	sum := sha256.New()
	_, err := io.CopyN(sum, &pattern{}, size)
	must(t, err)
	want := fmt.Sprintf("%d %x", size, sum.Sum(nil))
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			got := sha256.New()
			n, _ := io.Copy(got, r.Body) // what is missing shows in the sum
			fmt.Fprintf(w, "%d %x", n, got.Sum(nil))
			return
		}
		_, _ = io.CopyN(w, &pattern{}, size) // likewise
	})
	m := Start(t, Options{Manifests: bulkService, Images: map[string]Image{"bulk": func(_ *Pod, l net.Listener) {
		p := new(http.Protocols)
		p.SetHTTP1(true)
		p.SetUnencryptedHTTP2(true)
		_ = (&http.Server{Handler: h, Protocols: p}).Serve(l)
	}}})
	for _, c := range []struct {
		addr string
		h2   bool
	}{{"10.96.0.51:80", false}, {"10.96.0.51:81", true}, {"10.96.0.51:90", false}} {
		client := m.Client("sleep").HTTP(c.addr, c.h2)
		client.Timeout = time.Minute
		resp, err := client.Post("http://bulk/", "application/octet-stream", io.LimitReader(&pattern{}, size))
		must(t, err)
		got, err := io.ReadAll(resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		if string(got) != want {
			t.Errorf("%s: upload: %s, want %s", c.addr, got, want)
		}
		resp, err = client.Get("http://bulk/")
		must(t, err)
		down := sha256.New()
		n, err := io.Copy(down, resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		if got := fmt.Sprintf("%d %x", n, down.Sum(nil)); got != want {
			t.Errorf("%s: download: %s, want %s", c.addr, got, want)
		}
	}
}

// pattern is an endless stream whose parts differ.
type pattern struct{ n uint32 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		p.n++
		b[i] = byte(p.n >> (p.n % 16))
	}
	return len(b), nil
}

// The same value of the header that a DestinationRule hashes by always leads to the same pod, and both pods are used.
func TestConsistentHash(t *testing.T) {
	t.Parallel()
	m := Start(t, Options{Manifests: `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo}
spec:
  host: echo.default.svc.cluster.local
  trafficPolicy:
    loadBalancer: {consistentHash: {httpHeaderName: x-user}}
`})
	c := m.Client("sleep").HTTP("10.96.0.10:80", false)
	seen := map[string]bool{}
	for user := range 32 {
		pods := map[string]bool{}
		for range 4 {
			req, err := http.NewRequest(http.MethodGet, "http://echo/", nil)
			must(t, err)
			req.Header.Set("X-User", fmt.Sprint("user", user))
			resp, err := c.Do(req)
			must(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			must(t, err)
			must(t, resp.Body.Close())
			pods[resp.Header.Get("X-Pod")] = true
			seen[resp.Header.Get("X-Pod")] = true
		}
		if len(pods) != 1 {
			t.Errorf("user %d was sent to %v", user, pods)
		}
	}
	if len(seen) != 2 {
		t.Errorf("only %v were used", seen)
	}
}

// One HBONE connection carries many WebSockets at once, each of which gets back what it sent.
func TestWebSockets(t *testing.T) {
	t.Parallel()
	m := Start(t, Options{})
	p := m.Client("sleep")
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			c, _, err := p.DialWebSocket(t.Context(), "10.96.0.10:80", "echo", "/chat") //nolint:bodyclose // it is the WebSocket's
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			for n := range 20 {
				want := fmt.Sprintf("message %d of %d", n, i)
				if err := c.WriteMessage(1, []byte(want)); err != nil {
					t.Error(err)
					return
				}
				_, got, err := c.ReadMessage()
				if err != nil || string(got) != want {
					t.Errorf("%q, %v, want %q", got, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}
