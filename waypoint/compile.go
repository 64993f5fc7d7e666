package waypoint

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry/accesslog"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
	"github.com/gowaypoint/gowaypoint/telemetry/tracing"
	"github.com/gowaypoint/gowaypoint/waypoint/cluster"
	"github.com/gowaypoint/gowaypoint/waypoint/config"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/filter/builtin"
	"github.com/gowaypoint/gowaypoint/waypoint/hbone"
	"github.com/gowaypoint/gowaypoint/waypoint/route"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// compilerOptions hands the compiler what it does not know itself.
func (s *Server) compilerOptions() config.Options {
	o := s.formatOptions()
	return config.Options{
		Filters: builtin.Registry(builtin.Dependencies{
			Format: o, Stats: s.registry.Stats, Mesh: s.registry.Mesh, Peer: s.peers.byAddr, Network: s.cfg.Network, Audit: s.files.Stdout(),
		}),
		Routes: func(rc *routev3.RouteConfiguration, ro route.Options) (*route.Config, []string, error) {
			ro.Format = o
			return route.Compile(rc, ro)
		},
		AccessLog: func(list []*accesslogv3.AccessLog) ([]filter.AccessLog, []string, error) {
			logs, notes, err := accesslog.Compile(list, accesslog.Outputs{Files: s.files, Services: s.logs}, o)
			if err != nil || logs.Empty() {
				return nil, notes, err
			}
			return []filter.AccessLog{logs}, notes, nil
		},
		Tracer: func(m *hcmv3.HttpConnectionManager) (*tracing.Tracer, []string, error) {
			id, err := tracing.CompileRequestID(m.GetRequestIdExtension())
			if err != nil {
				return nil, nil, err
			}
			return s.tracing.Tracer(m.GetTracing(), id)
		},
	}
}

func (s *Server) formatOptions() format.Options {
	host, err := os.Hostname()
	if err != nil {
		host = "" // %HOSTNAME% is then absent
	}
	return format.Options{Env: os.LookupEnv, Hostname: host, CEL: s.cel}
}

func (s *Server) tracingOptions() tracing.Options {
	return tracing.Options{
		Dial: s.collector, ServiceName: s.cfg.Node.GetCluster(), NodeID: s.cfg.Node.GetId(), Zone: s.cfg.Node.GetLocality().GetZone(),
		Format: s.formatOptions(), Log: s.log,
	}
}

func (s *Server) logServiceOptions() accesslog.ServiceOptions {
	return accesslog.ServiceOptions{
		Dial: func(cluster string) (accesslog.Dialer, error) {
			dial, err := s.collector(cluster)
			return accesslog.Dialer(dial), err
		},
		Node: s.cfg.Node, Log: s.log,
	}
}

// collector is the way to a cluster for exporters: its endpoints, with whatever TLS or HBONE leads to them.
func (s *Server) collector(name string) (tracing.Dialer, error) {
	return func(ctx context.Context) (net.Conn, error) {
		c := s.clusters.Get(name)
		if c == nil {
			return nil, fmt.Errorf("collector cluster %q is not in the configuration", name)
		}
		if err := c.Config().Refused; err != nil {
			return nil, fmt.Errorf("collector cluster %q: %w", name, err)
		}
		h, err := c.Pick(&cluster.PickContext{})
		if err != nil {
			return nil, fmt.Errorf("collector cluster %q: %w", name, err)
		}
		conn, err := h.Connect(ctx)
		if err != nil {
			return nil, fmt.Errorf("collector cluster %q: %w", name, err)
		}
		return hbone.NetConn(conn), nil
	}, nil
}

// windowBudget is what receive windows may take together: a quarter of the memory limit, since as much again waits in output
// buffers and copies, and the rest is configuration and the runtime's own.
func windowBudget(configured int64) int64 {
	if configured > 0 {
		return configured
	}
	const unlimited = 256 << 20 // without a limit: what 64 fast streams at 4 MiB want
	limit := debug.SetMemoryLimit(-1)
	if limit <= 0 || limit >= 1<<50 {
		return unlimited
	}
	return max(limit/4, 16<<20)
}

func (s *Server) now() time.Time { return time.Now() }

// closeExporters lets exporters send what they have, for a moment.
func (s *Server) closeExporters() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { s.tracing.Close(ctx) })
	wg.Go(func() { s.logs.Close(ctx) })
	wg.Wait()
}
