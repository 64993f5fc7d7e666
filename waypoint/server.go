package waypoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry/accesslog"
	"github.com/gowaypoint/gowaypoint/telemetry/cel"
	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/telemetry/tracing"
	"github.com/gowaypoint/gowaypoint/waypoint/cluster"
	"github.com/gowaypoint/gowaypoint/waypoint/config"
	"github.com/gowaypoint/gowaypoint/waypoint/exchange"
	"github.com/gowaypoint/gowaypoint/waypoint/h2"
	"github.com/gowaypoint/gowaypoint/waypoint/identity"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
	"github.com/gowaypoint/gowaypoint/waypoint/tcpproxy"
	"github.com/gowaypoint/gowaypoint/xdsclient"
	"github.com/gowaypoint/gowaypoint/xdsclient/wds"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Config is what a Server is made of.
type Config struct {
	// Node is sent to istiod, and its metadata labels telemetry.
	Node *corev3.Node
	// XDS reaches istiod. Node, Wildcard, DigestOnly and Logger are filled in by New.
	XDS xdsclient.Config
	// Identity gives the workload certificate. nil: Secrets is filled by somebody else.
	Identity identity.Source
	// Secrets holds certificates by SDS name. nil: New makes a store.
	Secrets *identity.Store
	// Registry takes metrics. nil: New makes one.
	Registry *metrics.Registry
	// Network is the mesh network of this proxy (metadata NETWORK); peers of other networks are not looked up.
	Network string

	// Listen binds an address that xDS names. nil: TCP, on that address. Tests and the demo bind another.
	Listen func(netip.AddrPort) (net.Listener, error)
	// Dialer makes upstream connections. nil: a net.Dialer.
	Dialer interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	}

	Drain Drain
	// WindowBudget bounds the receive windows of all HTTP/2 streams together, in bytes; 0: a quarter of the memory limit, or
	// 256 MiB where there is none.
	WindowBudget int64
	Logger       *slog.Logger
}

// Drain says how to end.
type Drain struct {
	// Grace is how long to serve on after SIGTERM (terminationDrainDuration); default 5 s.
	Grace time.Duration
	// ExitOnZero waits until no stream is left instead, and at least Minimum.
	ExitOnZero bool
	Minimum    time.Duration
}

// Server is a running waypoint.
type Server struct {
	cfg      Config
	log      *slog.Logger
	current  atomic.Pointer[program.Program]
	report   atomic.Pointer[config.Report]
	secrets  *identity.Store
	contexts *contexts
	clusters *cluster.Manager
	exchange *exchange.Env
	tcp      *tcpproxy.Env
	xds      *xdsclient.Client
	updates  *updater
	peers    *peers
	registry *metrics.Registry
	cel      *cel.Env
	files    *accesslog.Files
	logs     *accesslog.Services
	tracing  *tracing.Provider
	budget   *h2.Budget
	ports    ports
	started  time.Time
	draining atomic.Bool
	drained  atomic.Bool
	connID   atomic.Uint64

	sessions sessions
	shrink   shrinker
}

// New puts a server together. Errors are settings that it cannot run with.
func New(cfg Config) (*Server, error) {
	if cfg.Node.GetId() == "" {
		return nil, errors.New("waypoint: Config.Node has no id; istiod refuses such a stream")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Server{cfg: cfg, log: cfg.Logger, started: time.Now()}
	s.current.Store(&program.Program{})
	s.report.Store(&config.Report{})
	s.sessions.live = map[*tcpproxy.Session]struct{}{}

	if s.secrets = cfg.Secrets; s.secrets == nil {
		s.secrets = identity.NewStore(identity.StoreOptions{Log: cfg.Logger})
	}
	s.contexts = newContexts(s.secrets)
	s.cel = cel.NewEnv(cfg.Node)
	if s.registry = cfg.Registry; s.registry == nil {
		version := cfg.Node.GetMetadata().GetFields()["ISTIO_VERSION"].GetStringValue()
		s.registry = metrics.NewRegistry(metrics.MeshOptions{Version: version, CEL: s.cel}, cfg.Logger)
	}
	s.peers = newPeers(wds.NewTable(cfg.Network))
	s.budget = h2.NewBudget(windowBudget(cfg.WindowBudget))
	s.clusters = cluster.NewManager(cluster.Options{
		ClientTLS: s.contexts.client, Dialer: cfg.Dialer, Logger: cfg.Logger, H2: h2.Options{Budget: s.budget, Logger: cfg.Logger},
	})
	s.files = accesslog.NewFiles(accesslog.FileOptions{})
	s.logs = accesslog.NewServices(s.logServiceOptions())
	s.tracing = tracing.NewProvider(s.tracingOptions())
	s.exchange = &exchange.Env{
		Clusters: s.clusters, Peer: s.peers.byAddr, RequestID: tracing.NewRequestID, Logger: cfg.Logger,
		Tunnel: s.tunnel, Reachable: s.reachable,
	}
	s.tcp = &tcpproxy.Env{Clusters: s.clusters, Peer: s.peers.byAddr, Logger: cfg.Logger}
	s.updates = newUpdater(s)

	x := cfg.XDS
	x.Node, x.Logger = cfg.Node, cfg.Logger
	x.Wildcard = []string{xdsclient.TypeCluster, xdsclient.TypeListener, xdsclient.TypeWorkload}
	x.DigestOnly = []string{xdsclient.TypeWorkload}
	client, err := xdsclient.New(x, s.updates)
	if err != nil {
		return nil, fmt.Errorf("waypoint: %w", err)
	}
	s.xds = client
	if err := s.registry.Proxy.Register(newCollector(s)); err != nil {
		return nil, fmt.Errorf("waypoint: metrics: %w", err)
	}
	return s, nil
}

// Run runs the server until ctx ends and the drain is over. It returns nil after an orderly end.
func (s *Server) Run(ctx context.Context) error {
	// What serves clients goes on through the drain; only its end stops it.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	run := func(what string, f func(context.Context) error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := f(work); err != nil && work.Err() == nil {
				s.log.Error(what+" ended", "error", err)
			}
		}()
	}
	if s.cfg.Identity != nil {
		run("identity", func(c context.Context) error { return s.cfg.Identity.Run(c, s.secrets) })
	}
	run("xDS client", s.xds.Run)
	run("configuration", s.updates.run)

	<-ctx.Done()
	s.drain()
	stop()
	s.ports.close()
	wg.Wait()
	s.closeExporters() // through clusters
	s.clusters.Close()
	s.files.Close()
	if s.cfg.Secrets == nil {
		s.secrets.Close()
	}
	return nil
}

// Program returns the configuration in force.
func (s *Server) Program() *program.Program { return s.current.Load() }

// Report returns the census of the configuration in force.
func (s *Server) Report() *config.Report { return s.report.Load() }

// Clusters returns the pools of the backends.
func (s *Server) Clusters() *cluster.Manager { return s.clusters }

// Secrets returns the certificate store.
func (s *Server) Secrets() *identity.Store { return s.secrets }

// XDS returns the client of istiod.
func (s *Server) XDS() *xdsclient.Client { return s.xds }

// Registry returns the metrics.
func (s *Server) Registry() *metrics.Registry { return s.registry }

// Node returns what istiod knows us by.
func (s *Server) Node() *corev3.Node { return s.cfg.Node }

// Started returns when the server was made.
func (s *Server) Started() time.Time { return s.started }

// Workloads is the number of workloads known.
func (s *Server) Workloads() int { return s.peers.table.Len() }

// Addresses returns where the listeners of the configuration in force are bound.
func (s *Server) Addresses() []net.Addr { return s.ports.addresses() }
