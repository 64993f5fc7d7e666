package wds

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/xdsclient"
)

// istiod does with workloads what istiod does: on the first stream it sends all; on the next, only what the client does not hold in the
// present version, and the removal of what is gone.
type istiod struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	streams  int
	all      []*discoveryv3.Resource // the last one is gone when the second stream comes
	problems chan string
}

func (s *istiod) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: xdsclient.TypeWorkload, Nonce: "n", Resources: s.all}
	s.streams++
	if s.streams == 2 {
		resp.Resources = nil
		for _, r := range s.all {
			if first.GetInitialResourceVersions()[r.GetName()] != r.GetVersion() {
				s.problems <- "the client does not hold " + r.GetName()
			}
		}
		resp.RemovedResources = []string{s.all[len(s.all)-1].GetName()}
	}
	if err := stream.Send(resp); err != nil {
		return err
	}
	ack, err := stream.Recv()
	if err != nil {
		return err
	}
	if s.streams == 2 {
		<-stream.Context().Done()
	} else if got := ack.GetErrorDetail().GetMessage(); !strings.HasPrefix(got, "Error adding/updating workload(s) bad: ") {
		s.problems <- "the first answer says " + got
	}
	return nil
}

// TestStream runs a Table behind a real client and server.
func TestStream(t *testing.T) {
	resource := func(name, version string, value []byte) *discoveryv3.Resource {
		return &discoveryv3.Resource{Name: name, Version: version, Resource: &anypb.Any{TypeUrl: xdsclient.TypeWorkload, Value: value}}
	}
	server := &istiod{problems: make(chan string, 10)}
	for i, uid := range []string{"a", "b"} {
		server.all = append(server.all, resource(uid, "v1", encode(t, map[string]any{"uid": uid, "addresses": [][]byte{{10, 0, 0, byte(i)}}})))
	}
	wanted := server.all
	server.all = append([]*discoveryv3.Resource{resource("bad", "", []byte{0x0a, 99})}, server.all...)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rpc := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(rpc, server)
	go func() { _ = rpc.Serve(l) }() // ends by Stop
	defer rpc.Stop()

	table := NewTable("")
	client, err := xdsclient.New(xdsclient.Config{
		Target: l.Addr().String(), Plaintext: true, Node: &corev3.Node{Id: "n"},
		Wildcard: []string{xdsclient.TypeWorkload}, DigestOnly: []string{xdsclient.TypeWorkload},
		Backoff: xdsclient.Backoff{Initial: time.Millisecond},
	}, table)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	deadline := time.Now().Add(10 * time.Second)
	for client.Status().Responses < 2 || table.Len() != 1 {
		if time.Now().After(deadline) {
			t.Fatalf("status %+v, %d workloads", client.Status(), table.Len())
		}
		time.Sleep(time.Millisecond)
	}
	if w := table.ByAddr(addr("10.0.0.0")); w == nil || w.UID != wanted[0].GetName() {
		t.Errorf("a is %v", w)
	}
	if w := table.ByAddr(addr("10.0.0.1")); w != nil {
		t.Errorf("b is %v", w)
	}
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(server.problems)
	for p := range server.problems {
		t.Error(p)
	}
}
