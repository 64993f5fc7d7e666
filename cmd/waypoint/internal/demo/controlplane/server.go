package controlplane

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	securityv1 "istio.io/api/security/v1alpha1"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/ca"
	"github.com/gowaypoint/gowaypoint/xdsclient"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
)

// Host is the name in the server's certificate, istiod's.
const Host = "istiod.istio-system.svc"

// pushOrder is make before break: what is referred to comes before what refers to it.
var pushOrder = []string{xdsclient.TypeCluster, xdsclient.TypeEndpoint, xdsclient.TypeListener, xdsclient.TypeWorkload}

// Server serves ADS and the CA on one port with TLS, as istiod does on 15012. The stream must carry a token of the CA for the
// namespace that the node names.
type Server struct {
	addr   string
	grpc   *grpc.Server
	caches map[string]*cachev3.LinearCache
}

// NewServer listens on a loopback port. Call Serve next, then Set.
func NewServer(ctx context.Context, authority *ca.CA) (*Server, net.Listener, error) {
	cert, err := authority.IssueServer(Host)
	if err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	s := &Server{addr: l.Addr().String(), caches: map[string]*cachev3.LinearCache{}}
	mux := &cachev3.MuxCache{
		Classify:      func(r *cachev3.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cachev3.DeltaRequest) string { return r.GetTypeUrl() },
		Caches:        map[string]cachev3.Cache{},
	}
	for _, t := range append([]string{xdsclient.TypeRoute, xdsclient.TypeSecret, xdsclient.TypeExtensionConfig}, pushOrder...) {
		c := cachev3.NewLinearCache(t)
		s.caches[t], mux.Caches[t] = c, c
	}
	s.grpc = grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})))
	check := serverv3.CallbackFuncs{
		DeltaStreamOpenFunc: func(ctx context.Context, _ int64, _ string) error {
			_, err := authority.Authenticate(ctx)
			return err
		},
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			if n := r.GetNode(); n != nil && !strings.HasPrefix(n.GetId(), "waypoint~") {
				return status.Errorf(codes.InvalidArgument, "node %q is not a waypoint", n.GetId())
			}
			return nil
		},
	}
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.grpc, serverv3.NewServer(ctx, mux, check))
	securityv1.RegisterIstioCertificateServiceServer(s.grpc, authority)
	return s, l, nil
}

// Addr is host:port.
func (s *Server) Addr() string { return s.addr }

// Serve serves until Close.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Close ends all streams.
func (s *Server) Close() { s.grpc.Stop() }

// Set puts resources into force in place of those before: new and changed ones first, in the order in which they refer to each
// other, then removals in the opposite order. What has not changed is not sent.
func (s *Server) Set(r Resources) error {
	gone := map[string][]string{}
	for _, t := range pushOrder {
		now := s.caches[t].GetResources()
		changed := map[string]types.Resource{}
		for name, m := range r[t] {
			if old, ok := now[name]; !ok || !proto.Equal(old, m) {
				changed[name] = m
			}
		}
		for name := range now {
			if _, ok := r[t][name]; !ok {
				gone[t] = append(gone[t], name)
			}
		}
		if len(changed) > 0 {
			if err := s.caches[t].UpdateResources(changed, nil); err != nil {
				return fmt.Errorf("%s: %w", t, err)
			}
		}
	}
	for i := len(pushOrder) - 1; i >= 0; i-- {
		if names := gone[pushOrder[i]]; len(names) > 0 {
			if err := s.caches[pushOrder[i]].UpdateResources(nil, names); err != nil {
				return fmt.Errorf("%s: %w", pushOrder[i], err)
			}
		}
	}
	return nil
}
