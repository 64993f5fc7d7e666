package demo

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
)

// spans is a tiny collector: it takes OTLP over gRPC and remembers how many spans came and the last trace.
type spans struct {
	collectorv1.UnimplementedTraceServiceServer
	listener net.Listener
	grpc     *grpc.Server

	mu    sync.Mutex
	count int
	last  string // name of the last span
}

func newSpans() (*spans, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &spans{listener: l, grpc: grpc.NewServer()}
	collectorv1.RegisterTraceServiceServer(s.grpc, s)
	go func() { _ = s.grpc.Serve(l) }() // ends with close
	return s, nil
}

func (s *spans) addr() string { return s.listener.Addr().String() }

func (s *spans) close() { s.grpc.Stop() }

// Export implements the collector.
func (s *spans) Export(_ context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		for _, scope := range r.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				s.count++
				s.last = span.GetName()
			}
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

// received returns how many spans came, and the name of the last.
func (s *spans) received() (int, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count, s.last
}
