package waypoint_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint"
	"github.com/gowaypoint/gowaypoint/waypoint/hbone"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/xdsclient"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// The addresses of the samples: one service with four ports, a pod behind HBONE and a plain one.
const (
	vip     = "10.96.244.186"
	httpVIP = vip + ":5000"
	grpcVIP = vip + ":6000"
	autoVIP = vip + ":7000"
	tcpVIP  = vip + ":9000"
	podV1   = "10.244.0.2"
	podV2   = "10.244.0.3"
)

// sampleMesh runs a waypoint on what a real istiod sent: a GET-only policy, an HTTPRoute for /hello.
func sampleMesh(t *testing.T, edit ...func(*listenerv3.Listener)) *mesh {
	m := newMesh(t)
	for _, f := range []string{"cds", "eds", "lds"} {
		m.ads.load("config/testdata/" + f + ".json")
	}
	if len(edit) > 0 {
		m.editMain(edit...)
	}
	return m
}

// editMain changes listener main_internal.
func (m *mesh) editMain(edit ...func(*listenerv3.Listener)) {
	m.t.Helper()
	m.ads.mu.Lock()
	var l listenerv3.Listener
	err := m.ads.res[xdsclient.TypeListener]["main_internal"].UnmarshalTo(&l)
	m.ads.mu.Unlock()
	must(m.t, err)
	for _, e := range edit {
		e(&l)
	}
	m.ads.set("main_internal", &l)
}

// withoutTimeouts removes the routes' timeouts: 100 MB take longer than 5 s under the race detector.
func withoutTimeouts(l *listenerv3.Listener) {
	for _, c := range l.GetFilterChains() {
		for _, f := range c.GetFilters() {
			var h hcmv3.HttpConnectionManager
			if !f.GetTypedConfig().MessageIs(&h) || f.GetTypedConfig().UnmarshalTo(&h) != nil {
				continue
			}
			for _, vh := range h.GetRouteConfig().GetVirtualHosts() {
				for _, r := range vh.GetRoutes() {
					if a := r.GetRoute(); a != nil {
						a.Timeout = durationpb.New(0)
					}
				}
			}
			if a, err := anypb.New(&h); err == nil {
				f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: a}
			}
		}
	}
}

// withoutPolicy removes the RBAC filters.
func withoutPolicy(l *listenerv3.Listener) {
	for _, c := range l.GetFilterChains() {
		var keep []*listenerv3.Filter
		for _, f := range c.GetFilters() {
			if f.GetName() == "envoy.filters.network.rbac" {
				continue
			}
			var h hcmv3.HttpConnectionManager
			if f.GetTypedConfig().MessageIs(&h) && f.GetTypedConfig().UnmarshalTo(&h) == nil {
				var filters []*hcmv3.HttpFilter
				for _, hf := range h.GetHttpFilters() {
					if hf.GetName() != "envoy.filters.http.rbac" {
						filters = append(filters, hf)
					}
				}
				h.HttpFilters = filters
				if a, err := anypb.New(&h); err == nil {
					f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: a}
				}
			}
			keep = append(keep, f)
		}
		c.Filters = keep
	}
}

func hello(version string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, h := range []string{"X-Request-Id", "X-Forwarded-Proto", "X-Forwarded-For", "X-Forwarded-Client-Cert", "X-Envoy-Original-Path"} {
			w.Header().Set("Seen-"+h, r.Header.Get(h))
		}
		fmt.Fprintf(w, "Hello version: %s, %s %s\n", version, r.Method, r.URL)
	})
}

func (m *mesh) helloPods() {
	m.hbonePod(podV1, httpApp(hello("v1")))
	m.plainPod(podV2+":5000", hello("v2"))
}

// The main job: GET passes to both versions, over HBONE and over plain TCP, everything else is refused with Envoy's words.
func TestGetOnlyPolicy(t *testing.T) {
	m := sampleMesh(t)
	m.helloPods()
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep").http(httpVIP)
	seen := map[string]bool{}
	for range 40 {
		status, body := do(t, c, "GET", "http://helloworld:5000/hello", "")
		if status != 200 || !strings.HasPrefix(body, "Hello version: v") {
			t.Fatalf("GET: %d %q", status, body)
		}
		seen[body[:17]] = true
	}
	if len(seen) != 2 {
		t.Errorf("both versions answer: %v", seen)
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		if status, body := do(t, c, method, "http://helloworld:5000/hello", "x"); status != 403 || body != "RBAC: access denied" {
			t.Errorf("%s: %d %q", method, status, body)
		}
	}
	resp, err := c.Head("http://helloworld:5000/hello")
	must(t, err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("HEAD: %d", resp.StatusCode)
	}
	if status, _ := do(t, c, "GET", "http://helloworld:5000/nowhere", ""); status != 404 {
		t.Errorf("no route: %d", status)
	}
	if status, _ := do(t, c, "POST", "http://helloworld:5000/nowhere", ""); status != 403 {
		t.Errorf("policy comes before routes: %d", status)
	}
}

func TestHeaders(t *testing.T) {
	m := sampleMesh(t)
	m.helloPods()
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep").http(httpVIP)
	req, err := http.NewRequest(http.MethodGet, "http://helloworld:5000/hello/./a/../b?q=1", nil)
	must(t, err)
	req.Header.Set("X-Forwarded-Client-Cert", "By=liar")
	req.Header.Set("X-Envoy-Original-Path", "/liar")
	resp, err := c.Do(req)
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	_ = resp.Body.Close()
	if !strings.HasSuffix(string(body), "GET /hello/b?q=1\n") {
		t.Errorf("the path is normalised: %q", body)
	}
	for h, want := range map[string]string{"Server": "istio-envoy", "Seen-X-Forwarded-Proto": "http", "Seen-X-Forwarded-For": "",
		"Seen-X-Forwarded-Client-Cert": "", "Seen-X-Envoy-Original-Path": "", "X-Envoy-Decorator-Operation": "helloworld.default.svc.cluster.local:5000/*"} {
		if got := resp.Header.Get(h); got != want {
			t.Errorf("%s: %q, want %q", h, got, want)
		}
	}
	for _, h := range []string{"Date", "X-Envoy-Upstream-Service-Time", "Seen-X-Request-Id"} {
		if resp.Header.Get(h) == "" {
			t.Errorf("no %s", h)
		}
	}
}

// Where a CONNECT leads nowhere the client still gets an answer, in one of Envoy's two forms.
func TestTunnelsThatLeadNowhere(t *testing.T) {
	m := sampleMesh(t)
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep")
	for _, authority := range []string{"10.1.2.3:5000", "helloworld.default.svc:5000", "10.1.2.3", "10.1.2.3:http", "[::ffff:10.96.244.186]:5000"} {
		_, err := c.tunnel(authority)
		var status *hbone.StatusError
		if !errors.As(err, &status) || status.Status != 503 {
			t.Errorf("%s: %v", authority, err)
		}
	}
	for _, authority := range []string{vip + ":1", vip + ":0"} { // sniffed first, then nothing fits
		conn, err := c.tunnel(authority)
		if err != nil {
			t.Errorf("%s: %v", authority, err)
			continue
		}
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		must(t, err)
		_, err = conn.Read(make([]byte, 1))
		var reset *message.ResetError
		if !errors.As(err, &reset) || reset.Code != message.ConnectError {
			t.Errorf("%s: %v", authority, err)
		}
	}
	s, err := c.conn.Open()
	must(t, err)
	must(t, s.WriteHead(&message.Head{Method: "GET", Scheme: "https", Authority: "a", Path: "/"}, true))
	var h message.Head
	_, err = s.ReadHead(&h)
	must(t, err)
	if h.Status != 404 {
		t.Errorf("not a CONNECT: %d", h.Status)
	}
}

// A server that speaks first is heard on a TCP port, and its session is half-closed in order.
func TestServerFirstTCP(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.hbonePod(podV1, greeter)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go greeter(c)
		}
	}()
	m.route(podV2+":9000", l.Addr().String())
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep")
	for range 8 {
		conn, err := c.tunnel(tcpVIP)
		must(t, err)
		r := bufio.NewReader(conn)
		line, err := r.ReadString('\n')
		must(t, err)
		if line != "220 who are you?\n" {
			t.Fatalf("greeting %q", line)
		}
		_, err = io.WriteString(conn, "me\n")
		must(t, err)
		must(t, conn.(interface{ CloseWrite() error }).CloseWrite())
		rest, err := io.ReadAll(r)
		must(t, err)
		if string(rest) != "hello me\nbye\n" {
			t.Fatalf("rest %q", rest)
		}
	}
}

// greeter speaks first, answers each line, and says bye at the client's end.
func greeter(c net.Conn) {
	fmt.Fprint(c, "220 who are you?\n")
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break
		}
		fmt.Fprint(c, "hello "+line)
	}
	fmt.Fprint(c, "bye\n")
	_ = c.Close()
}

// With a policy that only knows HTTP, istiod sends an empty ALLOW to the TCP chain: nobody may, and the backend hears nothing.
func TestDeniedTCPReachesNobody(t *testing.T) {
	m := sampleMesh(t)
	p := m.hbonePod(podV1, greeter)
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	// The reset follows the 200 so closely that either may be what the client notices.
	if conn, err := m.client("sleep").tunnel(tcpVIP); err == nil {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the greeting came through")
		}
	}
	if n := p.tunnels.Load(); n != 0 {
		t.Errorf("the backend was connected to %d times", n)
	}
}

// A port without a declared protocol is HTTP for those who speak HTTP, and TCP for the rest.
func TestSniffedPort(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.hbonePod(podV1, func(c net.Conn) {
		r := bufio.NewReader(c)
		b, err := r.Peek(4)
		if err != nil {
			return
		}
		if string(b) == "ping" {
			fmt.Fprint(c, "pong")
			_ = c.Close()
			return
		}
		httpApp(hello("v1"))(&peeked{c, r})
	})
	for _, p := range []string{"http", "tcp"} {
		m.endpoints("inbound-vip|7000|"+p+"|helloworld.default.svc.cluster.local", podV1+":7000")
	}
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep")
	if status, body := do(t, c.http(autoVIP), "GET", "http://helloworld:7000/x", ""); status != 200 || !strings.Contains(body, "GET /x") {
		t.Errorf("HTTP/1.1: %d %q", status, body)
	}
	if status, body := do(t, c.http2(autoVIP), "GET", "http://helloworld:7000/x", ""); status != 200 || !strings.Contains(body, "GET /x") {
		t.Errorf("HTTP/2: %d %q", status, body)
	}
	for range 4 {
		conn, err := c.tunnel(autoVIP)
		must(t, err)
		_, err = io.WriteString(conn, "ping")
		must(t, err)
		if b, _ := io.ReadAll(conn); string(b) != "pong" {
			t.Errorf("TCP: %q", b)
		}
	}
}

type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// A kept-alive connection gets the new verdict with its next request.
func TestPolicyChangeHoldsForTheNextRequest(t *testing.T) {
	m := sampleMesh(t)
	m.helloPods()
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	var dials atomic.Int64
	cl := m.client("sleep")
	c := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return cl.tunnel(httpVIP)
	}}}
	post := func() int { s, _ := do(t, c, "POST", "http://helloworld:5000/hello", ""); return s }
	if s := post(); s != 403 {
		t.Fatalf("before: %d", s)
	}
	before := m.server.Program().Version
	m.editMain(withoutPolicy)
	eventually(t, "the new program", func() error {
		if m.server.Program().Version == before {
			return errNotYet
		}
		return nil
	})
	if s := post(); s != 200 {
		t.Errorf("after: %d", s)
	}
	if dials.Load() != 1 {
		t.Errorf("%d tunnels: the point is one that was kept", dials.Load())
	}
}

// 100 MB in both directions, whole.
func TestLargeBodies(t *testing.T) {
	m := sampleMesh(t, withoutPolicy, withoutTimeouts)
	const size = 100 << 20
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			sum := sha256.New()
			n, _ := io.Copy(sum, r.Body)
			fmt.Fprintf(w, "%d %x", n, sum.Sum(nil))
			return
		}
		_, _ = io.CopyN(w, pattern{}, size)
	})
	m.hbonePod(podV1, httpApp(h))
	m.plainPod(podV2+":5000", h)
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep").http(httpVIP)
	c.Timeout = time.Minute
	sum := sha256.New()
	_, err := io.CopyN(sum, pattern{}, size)
	must(t, err)
	want := fmt.Sprintf("%d %x", size, sum.Sum(nil))
	for range 2 {
		resp, err := c.Post("http://helloworld:5000/hello", "application/octet-stream", io.LimitReader(pattern{}, size))
		must(t, err)
		got, err := io.ReadAll(resp.Body)
		must(t, err)
		_ = resp.Body.Close()
		if string(got) != want {
			t.Errorf("upload: %s, want %s", got, want)
		}
		resp, err = c.Get("http://helloworld:5000/hello")
		must(t, err)
		down := sha256.New()
		n, err := io.Copy(down, resp.Body)
		must(t, err)
		_ = resp.Body.Close()
		if got := fmt.Sprintf("%d %x", n, down.Sum(nil)); got != want {
			t.Errorf("download: %s, want %s", got, want)
		}
	}
}

// pattern is an endless stream that is not all the same.
type pattern struct{}

func (pattern) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i * 7)
	}
	return len(p), nil
}

// A TCP session that a new policy does not allow ends; Envoy would keep it.
func TestPolicyChangeEndsTCPSession(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.hbonePod(podV1, greeter)
	m.endpoints("inbound-vip|9000|tcp|helloworld.default.svc.cluster.local", podV1+":9000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	conn, err := m.client("sleep").tunnel(tcpVIP)
	must(t, err)
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); line != "220 who are you?\n" {
		t.Fatalf("%q %v", line, err)
	}
	m.ads.load("config/testdata/lds.json") // the policy is back
	ended := make(chan error, 1)
	go func() { _, err := r.ReadByte(); ended <- err }()
	select {
	case err := <-ended:
		var reset *message.ResetError
		if !errors.As(err, &reset) {
			t.Errorf("the session ended with %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the session goes on although nobody may have it")
	}
}
