package xdsclient

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func rootsOf(mu *sync.Mutex, roots **x509.CertPool) func() (*x509.CertPool, error) {
	return func() (*x509.CertPool, error) {
		mu.Lock()
		defer mu.Unlock()
		return *roots, nil
	}
}

// until reads requests until one is of the type and satisfies ok.
func until(stream deltaStream, typeURL string, ok func(*discoveryv3.DeltaDiscoveryRequest) bool) (*discoveryv3.DeltaDiscoveryRequest, error) {
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if r.GetTypeUrl() == typeURL && ok(r) {
			return r, nil
		}
	}
}

func answerTo(nonce string) func(*discoveryv3.DeltaDiscoveryRequest) bool {
	return func(r *discoveryv3.DeltaDiscoveryRequest) bool { return r.GetResponseNonce() == nonce }
}

func initial(r *discoveryv3.DeltaDiscoveryRequest) bool { return r.GetResponseNonce() == "" }

// TestGarbage: resources that are no protobufs are rejected by name; the others of the response are in force.
func TestGarbage(t *testing.T) {
	p := newPKI(t)
	truncated := pack(t, "truncated", edsCluster("truncated"))
	truncated.Resource.Value = truncated.Resource.Value[:len(truncated.Resource.Value)-3]
	response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: TypeCluster, Nonce: "n1", Resources: []*discoveryv3.Resource{
		{Name: "garbage", Resource: &anypb.Any{TypeUrl: TypeCluster, Value: []byte("\xff\xff\xff garbage")}},
		pack(t, "good", edsCluster("good")),
		truncated,
		{Name: "wrong-type", Resource: &anypb.Any{TypeUrl: TypeListener}},
	}}
	answered := make(chan string, 1)
	addr, _ := serve(t, p, "127.0.0.1:0", &scripted{script: func(s deltaStream) error {
		if _, err := until(s, TypeCluster, initial); err != nil {
			return err
		}
		if err := s.Send(response); err != nil {
			return err
		}
		r, err := until(s, TypeCluster, answerTo("n1"))
		if err != nil {
			return err
		}
		answered <- r.GetErrorDetail().GetMessage()
		<-s.Context().Done()
		return nil
	}})
	c, h, _ := start(t, p, addr, nil)
	got := <-answered
	for _, want := range []string{
		"Error adding/updating cluster(s) ", "garbage: not a valid envoy.config.cluster.v3.Cluster",
		"truncated: not a valid envoy.config.cluster.v3.Cluster", "wrong-type: resource.type_url",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the NACK %q lacks %q", got, want)
		}
	}
	if got := h.names(TypeCluster); got != "good" {
		t.Errorf("in force: %q", got)
	}
	if s := c.Status(); s.Streams != 1 || !s.Connected {
		t.Errorf("the stream did not survive: %+v", s)
	}
}

// TestRefusals: istiod refuses for a while, in every way that it knows, and then serves.
func TestRefusals(t *testing.T) {
	p := newPKI(t)
	refusals := []error{
		status.Error(codes.PermissionDenied, "no identities"), status.Error(codes.PermissionDenied, "no identities"),
		status.Error(codes.Unauthenticated, "token expired"),
		status.Error(codes.Unavailable, "server is not ready"), status.Error(codes.Unavailable, "server is not ready"),
		status.Error(codes.ResourceExhausted, "request rate limit exceeded"),
		status.Error(codes.Unknown, "server is not ready to serve discovery information"),
	}
	var attempt atomic.Int32
	addr, _ := serve(t, p, "127.0.0.1:0", &scripted{script: func(s deltaStream) error {
		if n := int(attempt.Add(1)); n <= len(refusals) {
			return refusals[n-1]
		}
		if err := s.Send(&discoveryv3.DeltaDiscoveryResponse{
			TypeUrl: TypeCluster, Nonce: "n", ControlPlane: &corev3.ControlPlane{Identifier: "istiod-1"},
		}); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	}})
	c, _, lines := start(t, p, addr, nil)
	eventually(t, "connected", func() bool { return c.Status().Connected })
	s := c.Status()
	if s.Failures != uint64(len(refusals)) || s.Streams != uint64(len(refusals))+1 || s.ControlPlane != "istiod-1" {
		t.Errorf("status %+v", s)
	}
	for reason, want := range map[string]int{
		"PermissionDenied: no identities": 1, "Unauthenticated: token expired": 1, "Unavailable: server is not ready": 1,
		"ResourceExhausted: request rate limit exceeded": 1, "Unknown: server is not ready": 1, "xds: connected": 1,
	} {
		if n := lines.count(reason); n != want {
			t.Errorf("%q was logged %d times", reason, n)
		}
	}
}

// TestSilence: the server opens the stream and says nothing. The client waits, keeps asking for what is subscribed, and can be
// stopped (start checks that).
func TestSilence(t *testing.T) {
	p := newPKI(t)
	asked := make(chan struct{})
	addr, _ := serve(t, p, "127.0.0.1:0", &scripted{script: func(s deltaStream) error {
		_, err := until(s, TypeSecret, func(r *discoveryv3.DeltaDiscoveryRequest) bool {
			return len(r.GetResourceNamesSubscribe()) == 1 && r.GetResourceNamesSubscribe()[0] == "kubernetes://tls"
		})
		if err != nil {
			return err
		}
		close(asked)
		<-s.Context().Done()
		return nil
	}})
	c, h, _ := start(t, p, addr, nil)
	eventually(t, "the stream opens", func() bool { return c.Status().Streams == 1 })
	c.Subscribe(TypeSecret, "kubernetes://tls")
	<-asked
	if s := c.Status(); s.Connected || s.Failures != 0 || h.log() != "" {
		t.Errorf("status %+v, updates %q", s, h.log())
	}
}

// TestDeafPort: something accepts connections and never speaks TLS. The attempt is given up after connectTimeout.
func TestDeafPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // the test is over
	c, _, _ := start(t, newPKI(t), l.Addr().String(), nil)
	eventually(t, "the attempt fails", func() bool { return c.Status().Failures > 0 })
	if got := c.Status().LastError; !strings.HasPrefix(got, "Unavailable") {
		t.Errorf("reason %q", got)
	}
}

// TestServerThatDoesNotRead sends far more responses than the answers to them fit into the flow-control window, and reads none. If
// the client waited for its answers to be taken, both would wait for ever.
func TestServerThatDoesNotRead(t *testing.T) {
	p := newPKI(t)
	const responses = 3000
	addr, _ := serve(t, p, "127.0.0.1:0", &scripted{script: func(s deltaStream) error {
		if _, err := until(s, TypeCluster, initial); err != nil {
			return err
		}
		for i := range responses {
			if err := s.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: TypeCluster, Nonce: fmt.Sprint(i, strings.Repeat("-", 100))}); err != nil {
				return err
			}
		}
		<-s.Context().Done()
		return nil
	}}, grpc.InitialWindowSize(64<<10), grpc.InitialConnWindowSize(64<<10))
	c, _, _ := start(t, p, addr, nil)
	eventually(t, "all responses are read", func() bool { return c.Status().Responses == responses })
	s := c.Status()
	if s.Streams != 1 {
		t.Errorf("status %+v", s)
	}
	if s.BytesSent > responses*100/2 {
		t.Errorf("%d bytes were sent: the server's window is not full, so this test shows nothing", s.BytesSent)
	}
}

// TestLargeResponse: a push may be larger than gRPC's default limit of 4 MiB.
func TestLargeResponse(t *testing.T) {
	p := newPKI(t)
	large := &clusterv3.Cluster{Name: "large", AltStatName: strings.Repeat("x", 6<<20)}
	want, err := proto.Marshal(large)
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := serve(t, p, "127.0.0.1:0", &scripted{script: func(s deltaStream) error {
		if _, err := until(s, TypeCluster, initial); err != nil {
			return err
		}
		if err := s.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: TypeCluster, Nonce: "n", Resources: []*discoveryv3.Resource{
			{Name: "large", Resource: &anypb.Any{TypeUrl: TypeCluster, Value: want}},
		}}); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	}})
	c, _, _ := start(t, p, addr, nil)
	eventually(t, "it arrives", func() bool { _, ok := c.Get(TypeCluster, "large"); return ok })
	if r, _ := c.Get(TypeCluster, "large"); !bytes.Equal(r.Value, want) || !proto.Equal(r.Any(), &anypb.Any{TypeUrl: TypeCluster, Value: want}) {
		t.Error("the bytes differ")
	}
	if got := c.Stats(TypeCluster).Bytes; got != uint64(len(want)) {
		t.Errorf("%d bytes counted", got)
	}
}

// TestSubscribeConcurrently subscribes from many goroutines while responses arrive. The server must end up with exactly the names that
// are wanted, and no request may subscribe to everything.
func TestSubscribeConcurrently(t *testing.T) {
	p := newPKI(t)
	const goroutines, names = 8, 20
	var known sync.Map
	addr, _ := serve(t, p, "127.0.0.1:0", &scripted{script: func(s deltaStream) error {
		go func() {
			for i := 0; s.Context().Err() == nil; i++ {
				if s.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: TypeListener, Nonce: fmt.Sprint(i), Resources: []*discoveryv3.Resource{
					pack(t, "l", listener("l")),
				}}) != nil {
					return
				}
			}
		}()
		for {
			r, err := s.Recv()
			if err != nil {
				return err
			}
			if r.GetTypeUrl() != TypeEndpoint {
				continue
			}
			if len(r.GetResourceNamesSubscribe())+len(r.GetResourceNamesUnsubscribe()) == 0 {
				t.Errorf("a request without names: %v", r)
			}
			for _, n := range r.GetResourceNamesSubscribe() {
				known.Store(n, true)
			}
			for _, n := range r.GetResourceNamesUnsubscribe() {
				known.Delete(n)
			}
		}
	}})
	c, _, _ := start(t, p, addr, nil)
	var workers sync.WaitGroup
	for g := range goroutines {
		workers.Go(func() {
			for i := range names {
				c.Subscribe(TypeEndpoint, fmt.Sprintf("%d/%d", g, i))
				if i%2 == 1 {
					c.Unsubscribe(TypeEndpoint, fmt.Sprintf("%d/%d", g, i-1))
				}
				_ = c.Snapshot(TypeEndpoint) // read beside
			}
		})
	}
	workers.Wait()
	eventually(t, "the server knows every second name", func() bool {
		n, wrong := 0, false
		known.Range(func(k, _ any) bool {
			n++
			wrong = wrong || strings.HasSuffix(k.(string), "/0")
			return true
		})
		return n == goroutines*names/2 && !wrong
	})
}

// TestPlaintext: without TLS the token stays here, and that is said.
func TestPlaintext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	token := make(chan string, 1)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, &scripted{script: func(s deltaStream) error {
		token <- callerMetadata(s.Context(), "authorization")
		<-s.Context().Done()
		return nil
	}})
	go func() { _ = server.Serve(l) }() // ends by Stop
	defer server.Stop()
	_, _, lines := start(t, &pki{}, l.Addr().String(), func(cfg *Config) {
		cfg.Plaintext, cfg.RootCAs = true, nil
		cfg.Token = func() (string, error) { return "secret", nil }
	})
	if got := <-token; got != "" {
		t.Errorf("authorization %q", got)
	}
	if lines.count("the token is not sent") != 1 {
		t.Error("not logged")
	}
}

func TestRunTwice(t *testing.T) {
	c, _, _ := start(t, newPKI(t), "127.0.0.1:1", nil)
	eventually(t, "running", c.running.Load)
	if err := c.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("error %v", err)
	}
}
