package waypoint_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint"
	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/message"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A route is picked by the path that policy has judged, also where the question whether an upgrade is allowed is asked before
// the filters: "/ws/../hello" is not below "/ws".
func TestRouteOfAnUpgradeIsPickedByTheNormalisedPath(t *testing.T) {
	m := sampleMesh(t, withoutPolicy, editHTTP(func(h *hcmv3.HttpConnectionManager) {
		h.UpgradeConfigs = nil
		vh := h.GetRouteConfig().GetVirtualHosts()[0]
		ws := proto.Clone(vh.GetRoutes()[0]).(*routev3.Route)
		ws.Match = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/ws"}}
		ws.GetRoute().UpgradeConfigs = []*routev3.RouteAction_UpgradeConfig{{UpgradeType: "websocket", Enabled: wrapperspb.Bool(true)}}
		vh.Routes = append([]*routev3.Route{ws}, vh.GetRoutes()...)
	}))
	m.helloPods()
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	conn, err := m.client("sleep").tunnel(httpVIP)
	must(t, err)
	fmt.Fprint(conn, "GET /ws/../hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("%d: the route of /ws allowed an upgrade of /hello", resp.StatusCode)
	}
}

// h2Inside makes HTTP/2 requests inside a tunnel that no ordinary client would send.
func (c *client) h2Inside(t *testing.T, authority string) *h2.Conn {
	t.Helper()
	raw, err := c.tunnel(authority)
	must(t, err)
	conn := h2.NewClient(raw, h2.Options{})
	go func() { _ = conn.Serve() }()
	t.Cleanup(func() { conn.Close(nil) })
	return conn
}

// A head that cannot be written to the endpoint must be answered, not waited for: the endpoint has nothing to answer.
func TestHeadThatCannotBeSentOnIsAnswered(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.helloPods()
	m.endpoints("inbound-vip|6000|http|helloworld.default.svc.cluster.local", podV1+":6000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep")

	t.Run("a path that HTTP/1.1 does not have", func(t *testing.T) {
		s, err := c.h2Inside(t, httpVIP).Open()
		must(t, err)
		must(t, s.WriteHead(&message.Head{Method: "GET", Scheme: "http", Authority: "helloworld:5000", Path: "/hello\xff"}, true))
		wantAnswer(t, s)
	})
	t.Run("an upgrade to an HTTP/2 endpoint without extended CONNECT", func(t *testing.T) {
		conn, err := c.tunnel(grpcVIP)
		must(t, err)
		fmt.Fprint(conn, "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = conn.SetReadDeadline(time.Now().Add(3 * time.Second))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		must(t, err)
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode < 400 {
			t.Errorf("%d", resp.StatusCode)
		}
	})
}

func wantAnswer(t *testing.T, s *h2.Stream) {
	t.Helper()
	timer := time.AfterFunc(3*time.Second, func() { s.Reset(message.Cancel) })
	defer timer.Stop()
	var h message.Head
	_, err := s.ReadHead(&h)
	var r *message.ResetError
	if errors.As(err, &r) && r.Remote {
		return
	}
	must(t, err)
	if h.Status < 400 {
		t.Errorf("status %d", h.Status)
	}
}

// An empty line before a request does not make it another protocol: HTTP servers skip it, so HTTP policy and routes must see it.
func TestEmptyLineDoesNotPickTheTCPChain(t *testing.T) {
	m := sampleMesh(t)
	m.helloPods()
	m.hbonePod(podV1, httpApp(hello("v1")))
	m.endpoints("inbound-vip|7000|http|helloworld.default.svc.cluster.local", podV1+":7000")
	m.endpoints("inbound-vip|7000|tcp|helloworld.default.svc.cluster.local", podV1+":7000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	conn, err := m.client("sleep").tunnel(autoVIP)
	must(t, err)
	fmt.Fprint(conn, "\r\nPOST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusForbidden || resp.Header.Get("Server") != "istio-envoy" {
		t.Errorf("%d, %q: not the HTTP chain", resp.StatusCode, resp.Header.Get("Server"))
	}
}

// A head that takes longer than request_headers_timeout ends the connection; the time between two requests does not count.
func TestSlowHead(t *testing.T) {
	const timeout = 300 * time.Millisecond
	m := sampleMesh(t, withoutPolicy, editHTTP(func(h *hcmv3.HttpConnectionManager) {
		h.RequestHeadersTimeout = durationpb.New(timeout)
	}))
	m.helloPods()
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	conn, err := m.client("sleep").tunnel(httpVIP)
	must(t, err)
	r := bufio.NewReader(conn)
	for range 2 {
		fmt.Fprint(conn, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		must(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		must(t, err)
		time.Sleep(2 * timeout)
	}
	fmt.Fprint(conn, "GET /hello HTTP/1.1\r\nHost: a\r\nX: ")
	ended := make(chan error, 1)
	go func() { _, err := r.ReadByte(); ended <- err }()
	patience := time.After(10 * time.Second)
	for {
		select {
		case err := <-ended:
			var reset *message.ResetError
			if !errors.As(err, &reset) || reset.Lost {
				t.Errorf("it ended with %v, want a reset", err)
			}
			return
		case <-time.After(timeout / 10):
			fmt.Fprint(conn, "a") // there is always a little more
		case <-patience:
			t.Fatal("it goes on for ever")
		}
	}
}
