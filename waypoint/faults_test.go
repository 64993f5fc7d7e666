package waypoint_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/xdsclient"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	httpChain   = "inbound-vip|5000|http|helloworld.default.svc.cluster.local"
	httpCluster = httpChain
)

// editHTTP returns an edit of httpChain's HTTP manager.
func editHTTP(edit func(*hcmv3.HttpConnectionManager)) func(*listenerv3.Listener) {
	return func(l *listenerv3.Listener) {
		for _, c := range l.GetFilterChains() {
			if c.GetName() != httpChain {
				continue
			}
			for _, f := range c.GetFilters() {
				var h hcmv3.HttpConnectionManager
				if !f.GetTypedConfig().MessageIs(&h) || f.GetTypedConfig().UnmarshalTo(&h) != nil {
					continue
				}
				edit(&h)
				if a, err := anypb.New(&h); err == nil {
					f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: a}
				}
			}
		}
	}
}

func (m *mesh) nacked(t *testing.T, words ...string) {
	t.Helper()
	eventually(t, "a NACK with "+strings.Join(words, ", "), func() error {
		m.ads.mu.Lock()
		defer m.ads.mu.Unlock()
		for _, n := range m.ads.nacks {
			all := true
			for _, w := range words {
				all = all && strings.Contains(n, w)
			}
			if all {
				return nil
			}
		}
		return fmt.Errorf("nacks: %q", m.ads.nacks)
	})
}

func (m *mesh) nextProgram(t *testing.T, before uint64) {
	t.Helper()
	eventually(t, "another program", func() error {
		if m.server.Program().Version == before {
			return errNotYet
		}
		return nil
	})
}

// What is wrong in one resource is said by name and field, and the other services go on working.
func TestBadConfiguration(t *testing.T) {
	healthy := func(t *testing.T, m *mesh) {
		t.Helper()
		conn, err := m.client("sleep").tunnel(tcpVIP)
		must(t, err)
		defer func() { _ = conn.Close() }()
		if line, err := bufio.NewReader(conn).ReadString('\n'); line != "220 who are you?\n" {
			t.Errorf("the TCP service: %q %v", line, err)
		}
	}
	start := func(t *testing.T) *mesh {
		m := sampleMesh(t, withoutPolicy)
		m.hbonePod(podV1, greeter)
		m.endpoints("inbound-vip|9000|tcp|helloworld.default.svc.cluster.local", podV1+":9000")
		m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
		return m
	}
	get := func(t *testing.T, m *mesh) (int, string) {
		return do(t, m.client("sleep").http(httpVIP), "GET", "http://helloworld:5000/hello", "")
	}

	t.Run("unknown filter", func(t *testing.T) {
		m := start(t)
		before := m.server.Program().Version
		m.editMain(editHTTP(func(h *hcmv3.HttpConnectionManager) {
			lua, err := anypb.New(&luav3.Lua{InlineCode: "function envoy_on_request(h) end"})
			must(t, err)
			h.HttpFilters = append([]*hcmv3.HttpFilter{{Name: "my.lua", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: lua}}}, h.HttpFilters...)
		}))
		m.nextProgram(t, before)
		if s, body := get(t, m); s != 500 || !strings.Contains(body, "cannot honour") {
			t.Errorf("a chain with a filter that is not there must refuse: %d %q", s, body)
		}
		found := false
		for _, r := range m.server.Report().Refusals {
			found = found || strings.Contains(r.Resource, httpChain) && strings.Contains(r.Reason, "my.lua")
		}
		if !found {
			t.Errorf("the census does not name it: %v", m.server.Report().Refusals)
		}
		healthy(t, m)
	})

	t.Run("broken regex", func(t *testing.T) {
		m := start(t)
		m.editMain(editHTTP(func(h *hcmv3.HttpConnectionManager) {
			h.GetRouteConfig().VirtualHosts[0].Routes[0].Match = &routev3.RouteMatch{
				PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: "(["}}}
		}))
		m.nacked(t, "main_internal", "regex")
		healthy(t, m)
	})

	t.Run("invalid address", func(t *testing.T) {
		m := start(t)
		m.ads.set("bad", &clusterv3.Cluster{Name: "bad", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
			LoadAssignment: mustCLA("bad", "300.1.2.3", 80)})
		m.nacked(t, "bad", "address")
		healthy(t, m)
	})

	t.Run("truncated protobuf", func(t *testing.T) {
		m := start(t)
		m.ads.mu.Lock()
		whole := m.ads.res[xdsclient.TypeCluster][httpCluster].GetValue()
		m.ads.mu.Unlock()
		m.ads.setRaw(httpCluster, xdsclient.TypeCluster, whole[:len(whole)-3])
		m.nacked(t, httpCluster)
		healthy(t, m)
		if s, _ := get(t, m); s != 502 { // the cluster is as it was: its pod answers, though not in HTTP
			t.Errorf("%d", s)
		}
	})
}

// Malformed requests get an error, and the backend hears nothing of them.
func TestMalformedRequests(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	var reached atomic.Int64
	m.hbonePod(podV1, httpApp(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) })))
	m.endpoints(httpCluster, podV1+":5000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep")
	for name, tc := range map[string]struct {
		raw  string
		want int
	}{
		"CL and TE":           {"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"two CL":              {"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400},
		"TE gzip":             {"POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
		"bare LF":             {"GET /hello HTTP/1.1\nHost: a\n\n", 400},
		"obs-fold":            {"GET /hello HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400},
		"space before colon":  {"GET /hello HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n", 400},
		"two hosts":           {"GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		"NUL":                 {"GET /hello HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400},
		"HTTP/1.0":            {"GET /hello HTTP/1.0\r\nHost: a\r\n\r\n", 426},
		"encoded NUL in path": {"GET /hello%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		"no host":             {"GET /hello HTTP/1.1\r\n\r\n", 400},
		"too large":           {"GET /hello HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 70<<10) + "\r\n\r\n", 431},
	} {
		conn, err := c.tunnel(httpVIP)
		must(t, err)
		_, err = io.WriteString(conn, tc.raw)
		must(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tc.want {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, tc.want)
		}
		_ = conn.Close()
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d of them reached the backend", n)
	}
}

// A body that breaks the rules in its middle is the client's fault, although the request is on its way by then.
func TestMalformedBody(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.hbonePod(podV1, httpApp(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })))
	m.endpoints(httpCluster, podV1+":5000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	conn, err := m.client("sleep").tunnel(httpVIP)
	must(t, err)
	_, err = io.WriteString(conn, "POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	must(t, err)
	time.Sleep(50 * time.Millisecond) // on its way
	_, err = io.WriteString(conn, "zz\r\n")
	must(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("%d", resp.StatusCode)
	}
}

// A backend that breaks off before its answer is tried again elsewhere when nothing was sent, and else answered for.
func TestBackendFaults(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.endpoints(httpCluster, podV1+":5000") // nobody listens there
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep").http(httpVIP)
	if s, body := do(t, c, "GET", "http://helloworld:5000/hello", ""); s != 503 ||
		!strings.HasPrefix(body, "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure") {
		t.Errorf("nobody there: %d %q", s, body)
	}

	var broken atomic.Int64
	m.hbonePod(podV1, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			broken.Add(1)
			_ = c.Close()
		}
	})
	if s, body := do(t, c, "POST", "http://helloworld:5000/hello", "x"); s != 503 || !strings.Contains(body, "connection termination") {
		t.Errorf("breaks off: %d %q", s, body)
	}
	if n := broken.Load(); n != 1 {
		t.Errorf("a request that may have been acted on was sent %d times", n)
	}

	// One of two endpoints is dead: nobody notices.
	m.hbonePod(podV2, httpApp(hello("v2")))
	before := m.server.Program().Version
	m.endpoints(httpCluster, "10.244.0.99:5000", podV2+":5000")
	m.nextProgram(t, before)
	for range 20 {
		if s, body := do(t, c, "POST", "http://helloworld:5000/hello", "x"); s != 200 {
			t.Fatalf("with a dead endpoint beside it: %d %q", s, body)
		}
	}
}

// An answer that breaks off in its middle must not look complete.
func TestCutOffResponse(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.hbonePod(podV1, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			_ = c.Close()
		}
	})
	m.endpoints(httpCluster, podV1+":5000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	resp, err := m.client("sleep").http(httpVIP).Get("http://helloworld:5000/hello")
	if err != nil {
		return // the reset overtook the head
	}
	defer func() { _ = resp.Body.Close() }()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%q passed for a whole answer", b)
	}
}

func TestRouteTimeout(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.hbonePod(podV1, httpApp(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })))
	m.endpoints(httpCluster, podV1+":5000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	req, err := http.NewRequest(http.MethodGet, "http://helloworld:5000/hello", nil)
	must(t, err)
	req.Header.Set("X-Envoy-Upstream-Rq-Timeout-Ms", "200")
	resp, err := m.client("sleep").http(httpVIP).Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusGatewayTimeout || string(b) != "upstream request timeout" {
		t.Errorf("%d %q", resp.StatusCode, b)
	}
}

// A client that leaves takes its request with it.
func TestClientLeaves(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	began, ended := make(chan struct{}), make(chan struct{})
	m.hbonePod(podV1, httpApp(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	})))
	m.endpoints(httpCluster, podV1+":5000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	conn, err := m.client("sleep").tunnel(httpVIP)
	must(t, err)
	fmt.Fprint(conn, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
	<-began
	conn.(interface{ Reset(message.ResetCode) }).Reset(message.Cancel)
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the backend goes on working for nobody")
	}
}

func mustCLA(name, addr string, port uint32) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: addr, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}}},
	}}}}}
}
