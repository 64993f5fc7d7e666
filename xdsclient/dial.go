package xdsclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
)

// dial prepares a connection with roots, certificate and token as they are now. It does not connect yet; opening the stream does.
// Each attempt has a connection of its own, because these three may have been rotated, and because a new name resolution may
// lead to another istiod.
func (c *Config) dial(count *byteCounter) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if !c.Plaintext {
		roots, err := c.RootCAs()
		if err != nil {
			return nil, fmt.Errorf("reading the roots of the control plane's certificate: %w", err)
		}
		if roots == nil {
			return nil, errors.New("there are no roots for the control plane's certificate")
		}
		conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: c.ServerName}
		if c.ClientCertificate != nil {
			cert, err := c.ClientCertificate()
			if err != nil {
				return nil, fmt.Errorf("reading the client certificate: %w", err)
			}
			conf.Certificates = []tls.Certificate{*cert}
		}
		transport = credentials.NewTLS(conf)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithStatsHandler(count),
		grpc.WithDisableServiceConfig(), // saves a TXT look-up; the cluster's DNS has none for us
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
	}
	if c.Token != nil && !c.Plaintext {
		token, err := c.Token()
		if err != nil {
			return nil, fmt.Errorf("reading the token: %w", err)
		}
		token = strings.TrimSpace(token) // a file may end in a newline, which a header must not
		if token == "" {
			return nil, errors.New("the token is empty; istiod would refuse the stream")
		}
		opts = append(opts, grpc.WithPerRPCCredentials(bearer(token)))
	}
	conn, err := grpc.NewClient("dns:///"+c.Target, opts...)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection to %s: %w", c.Target, err)
	}
	return conn, nil
}

// bearer is a token as gRPC wants it; gRPC refuses to send it without TLS.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// byteCounter counts the messages' bytes, uncompressed, without framing. It lives as long as the client, over all connections.
type byteCounter struct {
	received, sent atomic.Uint64
}

func (b *byteCounter) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch p := s.(type) {
	case *stats.InPayload:
		b.received.Add(uint64(p.Length))
	case *stats.OutPayload:
		b.sent.Add(uint64(p.Length))
	}
}

func (b *byteCounter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (b *byteCounter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (b *byteCounter) HandleConn(context.Context, stats.ConnStats)                       {}
