package fake

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// allow is a policy that lets two paths through.
func allow(path string) string {
	return `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: changing}
spec:
  targetRefs: [{kind: Service, group: "", name: echo}]
  action: ALLOW
  rules: [{to: [{operation: {paths: [/always, ` + path + `]}}]}]
`
}

// echoPod is pod echo-v2, ready or not.
func echoPod(ready bool) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: echo-v2, labels: {app: echo, version: v2}}
spec:
  serviceAccountName: echo
  containers: [{name: app, image: echo, ports: [{containerPort: 8080}]}]
status:
  podIP: 10.244.0.3
  conditions: [{type: Ready, status: %q}]
`, map[bool]string{true: "True", false: "False"}[ready])
}

// kept is a client with one connection; it counts the tunnels that it had to open, and remembers how they ended.
type kept struct {
	*http.Client
	tunnels atomic.Int64
	mu      sync.Mutex
	ends    []string
}

// watched remembers how a tunnel ended: an end that comes from the waypoint is read before the client closes.
type watched struct {
	net.Conn
	k *kept
}

func (w watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if err != nil {
		w.k.note("read: " + err.Error())
	}
	return n, err
}

const closedByClient = "closed by the client"

func (w watched) Close() error {
	w.k.note(closedByClient)
	return w.Conn.Close()
}

func (k *kept) note(s string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ends = append(k.ends, s)
}

func (m *Mesh) kept(pod, addr string, h2 bool) *kept {
	k := &kept{Client: m.Client(pod).HTTP(addr, h2)}
	tr := k.Transport.(*http.Transport)
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, n, a string) (net.Conn, error) {
		k.tunnels.Add(1)
		c, err := dial(ctx, n, a)
		if err != nil {
			return nil, err
		}
		return watched{c, k}, nil
	}
	return k
}

func (k *kept) get(path string) (int, error) {
	resp, err := k.Get("http://echo" + path)
	if err != nil {
		return 0, err
	}
	if resp.Close {
		k.note("Connection: close")
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, err
}

// TestHundredChanges pushes a hundred changes of policies and endpoints while requests flow on connections that are kept. What
// both the old and the new configuration allow never fails. Once the new verdict has been seen on one connection, every other gets
// it with its next request, without a new tunnel.
func TestHundredChanges(t *testing.T) {
	t.Parallel()
	m := Start(t, Options{Manifests: allow("/a")})
	var clients []*kept
	for i := range 8 {
		pod, addr := "sleep", "10.96.0.10:80"
		if i%2 == 1 {
			pod = "curl"
		}
		if i%4 >= 2 {
			addr = "10.96.0.10:81"
		}
		clients = append(clients, m.kept(pod, addr, i%4 >= 2))
	}
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	var requests atomic.Int64
	load := make([]*kept, 4)
	for i := range load {
		load[i] = m.kept("sleep", "10.96.0.10:80", false)
		wg.Go(func() {
			for ctx.Err() == nil {
				if status, err := load[i].get("/always"); status != 200 {
					t.Errorf("a request that every configuration allows got %d, %v", status, err)
				}
				requests.Add(1)
			}
		})
	}
	paths := []string{"/a", "/b"}
	for change := range 100 {
		if change%5 == 4 { // ready or not: the other pod is there
			m.Istiod.Apply(echoPod(change%10 == 9))
			continue
		}
		now, before := paths[(change+1)%2], paths[change%2]
		m.Istiod.Apply(allow(now))
		start := time.Now()
		for {
			status, err := clients[0].get(now)
			must(t, err)
			if status == 200 {
				break
			}
			if status != 403 || time.Since(start) > 10*time.Second {
				t.Fatalf("change %d: %s is still answered with %d", change, now, status)
			}
			time.Sleep(time.Millisecond)
		}
		for i, c := range clients {
			if status, err := c.get(now); status != 200 {
				t.Errorf("change %d: client %d: %s got %d, %v", change, i, now, status, err)
			}
			if status, err := c.get(before); status != 403 {
				t.Errorf("change %d: client %d: %s got %d, %v", change, i, before, status, err)
			}
		}
	}
	stop()
	wg.Wait()
	for i, c := range append(clients, load...) {
		// net/http itself gives a connection up when it is not scheduled for 50 ms at the end of a request, which happens on
		// busy machines: what must not be is an end that comes from the waypoint.
		if n := c.tunnels.Load(); n > 3 || n > 1 && c.ends[0] != closedByClient {
			t.Errorf("client %d opened %d tunnels: the point is one that was kept; they ended so: %q", i, n, c.ends)
		}
	}
	if n := requests.Load(); n < 500 {
		t.Errorf("only %d requests: that is no steady load", n)
	}
	for _, p := range census(m.Server.Report()) {
		t.Error(p)
	}
}

// TestIstiodRestart: while istiod is away the waypoint goes on with what it has and says that it is ready; when istiod is back,
// what has changed meanwhile arrives.
func TestIstiodRestart(t *testing.T) {
	t.Parallel()
	m := Start(t, Options{Manifests: allow("/a")})
	c := m.kept("sleep", "10.96.0.10:80", false)
	expect := func(path string, want int) {
		t.Helper()
		if status, err := c.get(path); status != want {
			t.Errorf("%s: %d, %v, want %d", path, status, err, want)
		}
	}
	expect("/a", 200)
	expect("/b", 403)
	for round := range 2 {
		m.Istiod.Stop()
		m.Istiod.Apply(allow([]string{"/b", "/a"}[round]))
		for range 50 {
			expect([]string{"/a", "/b"}[round], 200)
			expect([]string{"/b", "/a"}[round], 403)
			time.Sleep(5 * time.Millisecond)
		}
		must(t, m.Server.Ready())
		m.Istiod.Serve()
		now := []string{"/b", "/a"}[round]
		eventually(t, "what changed meanwhile arrives", func() error {
			if status, err := c.get(now); status != 200 {
				return fmt.Errorf("%s: %d, %w", now, status, err)
			}
			return nil
		})
		expect([]string{"/a", "/b"}[round], 403)
	}
	if n := c.tunnels.Load(); n != 1 {
		t.Errorf("%d tunnels", n)
	}
}
