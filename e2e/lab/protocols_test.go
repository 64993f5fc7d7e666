//go:build lab

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/gowaypoint/gowaypoint/e2e/lab/ztun"
)

// Steps with what is not plain HTTP/1.1 request and answer.

func (s *scenario) echoesWebSocket(ctx context.Context, t *testing.T) {
	conn, err := s.tunnels.Connect(ctx, s.vip)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // the step is over
	config, err := websocket.NewConfig("ws://helloworld.default.svc.cluster.local:5000/websocket", "http://client.test")
	if err != nil {
		t.Fatal(err)
	}
	ws, err := websocket.NewClient(config, conn)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		sent, got := fmt.Sprintf("message %d", i), ""
		if err := websocket.Message.Send(ws, sent); err != nil {
			t.Fatal(err)
		}
		if err := websocket.Message.Receive(ws, &got); err != nil || got != sent {
			t.Fatalf("%q came back as %q, %v", sent, got, err)
		}
	}
}

func (s *scenario) callsGRPC(ctx context.Context, t *testing.T) {
	conn, err := grpc.NewClient("passthrough:///helloworld.default.svc.cluster.local:5002",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.tunnels.Connect(ctx, s.grpc) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // the step is over
	client := healthv1.NewHealthClient(conn)
	call := func() error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		answer, err := client.Check(ctx, &healthv1.HealthCheckRequest{})
		if err == nil && answer.Status != healthv1.HealthCheckResponse_SERVING {
			err = errors.New(answer.Status.String())
		}
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	stream, err := client.Watch(watching, &healthv1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv() // the first message of a stream that stays open
	}
	if err != nil {
		t.Fatal(err)
	}
	s.applyForNow(ctx, t, getOnly) // gRPC is POST
	eventually(t, 30*time.Second, func() error {
		if err := call(); status.Code(err) != codes.PermissionDenied || status.Convert(err).Message() != "RBAC: access denied" {
			return fmt.Errorf("%w, want PermissionDenied", err)
		}
		return nil
	})
	s.remove(ctx, t, getOnly)
	eventually(t, 30*time.Second, call)
}

// echoesTCP opens connections before and after a policy that allows one
// principal, and expects the other one's to be closed by it.
func (s *scenario) echoesTCP(ctx context.Context, t *testing.T) {
	other, err := s.Via(ctx, namespace, s.other, waypoint)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	open := func(pool *ztun.Pool) net.Conn {
		conn, err := pool.Connect(ctx, s.tcp)
		if err == nil {
			err = echo(conn)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	allowed, forbidden := open(s.tunnels), open(other)
	policy := policyYAML("client-only", "{kind: Service, group: '', name: helloworld}",
		`{from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]}`)
	s.applyForNow(ctx, t, policy)
	s.waitStatus(t, other.HTTP(s.vip, false), http.MethodGet, http.StatusForbidden)
	ended := make(chan error, 1)
	go func() {
		_, err := forbidden.Read(make([]byte, 1))
		ended <- err
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("bytes that nobody has sent")
		}
	case <-time.After(10 * time.Second):
		t.Error("a connection goes on that the policy forbids")
	}
	if conn, err := other.Connect(ctx, s.tcp); err == nil && echo(conn) == nil {
		t.Error("a connection was opened that the policy forbids")
	}
	if err := echo(allowed); err != nil {
		t.Errorf("the connection of the principal that is allowed: %v", err)
	}
	s.remove(ctx, t, policy)
	s.waitStatus(t, other.HTTP(s.vip, false), http.MethodGet, http.StatusOK)
	open(other)
}

// echo sends a line and waits for it to come back, for a while.
func echo(conn net.Conn) error {
	tooLong := time.AfterFunc(10*time.Second, func() { _ = conn.Close() })
	defer tooLong.Stop()
	const line = "to and fro\n"
	if _, err := io.WriteString(conn, line); err != nil {
		return err
	}
	got := make([]byte, len(line))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != line {
		return fmt.Errorf("%q came back", got)
	}
	return nil
}
