package waypoint_test

import (
	"bufio"
	"context"
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

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

const grpcCluster = "inbound-vip|6000|http|helloworld.default.svc.cluster.local"

// grpcConn is a gRPC client connection over a tunnel.
func (c *client) grpcConn(authority string) *grpc.ClientConn {
	c.m.t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+authority, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return c.tunnel(authority) }))
	must(c.m.t, err)
	c.m.t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// serveGRPC answers on any connection that it is given.
func serveGRPC(t *testing.T) func(net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return func(c net.Conn) { // pass the bytes on to the server's socket
		up, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(up, c); _ = up.(*net.TCPConn).CloseWrite() }()
		_, _ = io.Copy(c, up)
		_ = c.Close()
	}
}

// grpc's own interop cases, with its own client and server: unary, all kinds of streaming, metadata, status, cancellation.
func TestGRPCInterop(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.hbonePod(podV1, serveGRPC(t))
	m.endpoints(grpcCluster, podV1+":6000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	cc := m.client("sleep").grpcConn(grpcVIP)
	tc := testgrpc.NewTestServiceClient(cc)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// These end the process when something is wrong, with the reason on standard error.
	interop.DoEmptyUnaryCall(ctx, tc)
	interop.DoLargeUnaryCall(ctx, tc)
	interop.DoClientStreaming(ctx, tc)
	interop.DoServerStreaming(ctx, tc)
	interop.DoPingPong(ctx, tc)
	interop.DoEmptyStream(ctx, tc)
	// Not DoTimeoutOnSleepingServer: client and server both watch its deadline of a millisecond, and a server that is faster
	// resets the stream, which a proxy has to report as UNAVAILABLE.
	interop.DoCancelAfterBegin(ctx, tc)
	interop.DoCancelAfterFirstResponse(ctx, tc)
	interop.DoCustomMetadata(ctx, tc)
	interop.DoStatusCodeAndMessage(ctx, tc)
	interop.DoSpecialStatusMessage(ctx, tc)
	interop.DoUnimplementedMethod(ctx, cc)
}

// A refused gRPC request is an HTTP 200 with grpc-status 7; nobody behind it is 14.
func TestGRPCLocalReplies(t *testing.T) {
	m := sampleMesh(t) // POST is refused
	m.endpoints(grpcCluster, podV1+":6000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	tc := testgrpc.NewTestServiceClient(m.client("sleep").grpcConn(grpcVIP))
	_, err := tc.EmptyCall(context.Background(), &testgrpc.Empty{})
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "RBAC: access denied") {
		t.Errorf("denied: %v", err)
	}
	m.editMain(withoutPolicy)
	eventually(t, "UNAVAILABLE", func() error {
		_, err := tc.EmptyCall(context.Background(), &testgrpc.Empty{}) // nothing listens at the pod
		if status.Code(err) != codes.Unavailable {
			return fmt.Errorf("dead backend: %w", err)
		}
		return nil
	})
}

// A WebSocket handshake passes, and then bytes both ways, until the client leaves.
func TestUpgrade(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	left := make(chan struct{})
	echo := func(c net.Conn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil || req.Header.Get("Upgrade") != "websocket" || req.Header.Get("Sec-Websocket-Key") != "k" {
			fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return
		}
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\n")
		_, _ = io.Copy(c, r)
		_ = c.Close()
		close(left)
	}
	m.hbonePod(podV1, echo)
	m.endpoints("inbound-vip|5000|http|helloworld.default.svc.cluster.local", podV1+":5000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	conn, err := m.client("sleep").tunnel(httpVIP)
	must(t, err)
	fmt.Fprint(conn, "GET /hello HTTP/1.1\r\nHost: helloworld:5000\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	must(t, err)
	_ = resp.Body.Close() // a 101 has none
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "websocket" || resp.Header.Get("Sec-Websocket-Accept") != "a" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	for i := range 5 {
		line := fmt.Sprintf("frame %d\n", i)
		_, err := io.WriteString(conn, line)
		must(t, err)
		if got, err := r.ReadString('\n'); got != line {
			t.Fatalf("%q %v", got, err)
		}
	}
	must(t, conn.(interface{ CloseWrite() error }).CloseWrite())
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Error("the backend does not learn that the client left")
	}
}

func TestUnknownUpgradeIsRefused(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.helloPods()
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	conn, err := m.client("sleep").tunnel(httpVIP)
	must(t, err)
	fmt.Fprint(conn, "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: irc\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("%d", resp.StatusCode)
	}
}

// Requests that are sent without waiting for answers are answered in order.
func TestPipelining(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	m.helloPods()
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	conn, err := m.client("sleep").tunnel(httpVIP)
	must(t, err)
	const n = 20
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, "GET /hello/%d HTTP/1.1\r\nHost: helloworld\r\n\r\n", i)
	}
	_, err = io.WriteString(conn, all.String())
	must(t, err)
	must(t, conn.(interface{ CloseWrite() error }).CloseWrite()) // half-closed: the answers come all the same
	r := bufio.NewReader(conn)
	for i := range n {
		resp, err := http.ReadResponse(r, nil)
		must(t, err)
		b, err := io.ReadAll(resp.Body)
		must(t, err)
		_ = resp.Body.Close()
		if !strings.Contains(string(b), fmt.Sprintf("GET /hello/%d\n", i)) {
			t.Fatalf("answer %d: %q", i, b)
		}
	}
}

// The upstream connection is used again, and tunnels to one pod share one HBONE connection.
func TestUpstreamPooling(t *testing.T) {
	m := sampleMesh(t, withoutPolicy)
	p := m.hbonePod(podV1, httpApp(hello("v1")))
	m.endpoints("inbound-vip|5000|http|helloworld.default.svc.cluster.local", podV1+":5000")
	m.start(waypoint.Drain{Grace: 100 * time.Millisecond})
	c := m.client("sleep").http(httpVIP)
	for range 50 {
		if s, _ := do(t, c, "GET", "http://helloworld:5000/hello", ""); s != 200 {
			t.Fatal(s)
		}
	}
	if p.tunnels.Load() != 1 || p.connections.Load() != 1 {
		t.Errorf("%d tunnels on %d connections for 50 requests one after the other", p.tunnels.Load(), p.connections.Load())
	}
	var failed atomic.Int64
	done := make(chan struct{})
	for range 60 {
		go func() {
			defer func() { done <- struct{}{} }()
			if s, _ := do(t, c, "GET", "http://helloworld:5000/hello", ""); s != 200 {
				failed.Add(1)
			}
		}()
	}
	for range 60 {
		<-done
	}
	if failed.Load() > 0 || p.connections.Load() != 1 {
		t.Errorf("%d failed, %d connections", failed.Load(), p.connections.Load())
	}
}
