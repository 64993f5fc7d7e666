package accesslog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Dialer opens a connection to a log service. The bytes on it are plain: what the cluster wants (TLS, HBONE) is the dialer's.
type Dialer func(ctx context.Context) (net.Conn, error)

// ServiceOptions configure [NewServices].
type ServiceOptions struct {
	// Dial finds the way to a cluster by its name; an error refuses the configuration. nil: there are no log services.
	Dial func(cluster string) (Dialer, error)
	// Node is told to log services: who we are.
	Node *corev3.Node
	// Buffer bounds the bytes of entries that wait for one service. Default 4 MiB, as for a file: some seconds of a busy proxy.
	Buffer int
	// Timeout bounds how long one batch may take. Default 5 s: a service that is slower than that loses entries anyway.
	Timeout time.Duration
	// Idle is how long a service that gets no entries keeps its connection. Default 5 minutes.
	Idle time.Duration
	// Log gets a line when a service begins to fail. nil: silence.
	Log *slog.Logger
}

// Services is the set of log services of a process (gRPC ALS, OpenTelemetry), one connection for each configuration, whatever
// number of listeners log to it. Its methods may be called from any goroutine.
type Services struct {
	opts                  ServiceOptions
	sent, dropped, failed atomic.Uint64

	mu     sync.Mutex
	open   map[string]*queued
	closed bool
}

// ServiceCounts tell what became of the entries for all log services, since the start.
type ServiceCounts struct {
	Sent    uint64 // handed to a service
	Dropped uint64 // never sent: too many were waiting
	Failed  uint64 // sent, and not taken
}

// NewServices returns an empty set.
func NewServices(o ServiceOptions) *Services {
	if o.Buffer <= 0 {
		o.Buffer = 4 << 20
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Idle <= 0 {
		o.Idle = 5 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Services{opts: o, open: map[string]*queued{}}
}

// Counts are the counters for metrics.
func (s *Services) Counts() ServiceCounts {
	return ServiceCounts{s.sent.Load(), s.dropped.Load(), s.failed.Load()}
}

// Close sends what waits, for as long as ctx allows. Entries that come later are dropped and counted.
func (s *Services) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	all := s.open
	s.open = map[string]*queued{}
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, svc := range all {
		wg.Go(func() { svc.close(ctx) })
	}
	wg.Wait()
}

// get finds or makes the service of a configuration.
func (s *Services) get(config proto.Message, make func() (*queued, error)) (*queued, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(config)
	if err != nil {
		return nil, err
	}
	key := string(config.ProtoReflect().Descriptor().FullName()) + "\x00" + string(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("log services are closed")
	}
	if svc := s.open[key]; svc != nil {
		return svc, nil
	}
	svc, err := make()
	if err != nil {
		return nil, err
	}
	s.open[key] = svc
	return svc, nil
}

// connector makes connections to a gRPC service.
type connector struct {
	dial      Dialer
	authority string
	timeout   time.Duration
	headers   metadata.MD
}

// connector reads a grpc_service.
func (s *Services) connector(g *corev3.GrpcService) (*connector, error) {
	e := g.GetEnvoyGrpc()
	if e == nil {
		return nil, errors.New("only envoy_grpc is supported")
	}
	if s == nil || s.opts.Dial == nil {
		return nil, errors.New("there is no way to a log service")
	}
	dial, err := s.opts.Dial(e.GetClusterName())
	if err != nil {
		return nil, fmt.Errorf("envoy_grpc.cluster_name %q: %w", e.GetClusterName(), err)
	}
	c := &connector{dial: dial, authority: e.GetAuthority(), timeout: s.opts.Timeout, headers: metadata.MD{}}
	if c.authority == "" {
		c.authority = hostOf(e.GetClusterName())
	}
	if d := g.GetTimeout().AsDuration(); d > 0 {
		c.timeout = d
	}
	for _, h := range g.GetInitialMetadata() {
		c.headers.Append(strings.ToLower(h.GetKey()), h.GetValue())
	}
	return c, nil
}

// hostOf is the host of istiod's cluster names, "outbound|4317||otel.default.svc": Envoy sends the whole name as :authority, which
// Go servers refuse for its bars.
func hostOf(cluster string) string { return cluster[strings.LastIndexByte(cluster, '|')+1:] }

func (c *connector) connect() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///logs",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // TLS is the dialer's
		grpc.WithAuthority(c.authority),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.dial(ctx) }),
		grpc.WithNoProxy(),
	)
}
