package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Options are the addresses, as for net.Listen; "" leaves a port out, and port 0 takes any.
type Options struct {
	AdminAddr      string // 127.0.0.1:15000; must be loopback
	StatusAddr     string // :15020
	HealthAddr     string // :15021
	PrometheusAddr string // :15090
	// Logger takes what the pages have to say; default slog.Default().
	Logger *slog.Logger
}

// Server serves the ports.
type Server struct {
	src     Sources
	opts    Options
	log     *slog.Logger
	loggers *loggers
	probe   probe
	// unhealthy is set by POST /healthcheck/fail.
	unhealthy atomic.Bool

	mu    sync.Mutex
	ports [portCount]*port
	bound bool
}

// port is one bound address.
type port struct {
	listener net.Listener
	server   *http.Server
}

// The ports, in the order of their numbers.
const (
	adminPort = iota
	statusPort
	healthPort
	prometheusPort
	portCount
)

var portNames = [portCount]string{"admin", "status", "health", "prometheus"}

// New makes a Server and registers its figures in src.Registry. Nothing is bound yet.
func New(src Sources, o Options) *Server {
	src.orEmpty()
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Server{src: src, opts: o, log: o.Logger, loggers: newLoggers(src.Level)}
	s.registerStats()
	s.registerAgentMetrics()
	return s
}

// Listen binds the addresses, so that [Server.Addr] answers. Run does it if it was not done.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bound {
		return nil
	}
	addresses := [portCount]string{s.opts.AdminAddr, s.opts.StatusAddr, s.opts.HealthAddr, s.opts.PrometheusAddr}
	handlers := [portCount]http.Handler{s.adminHandler(), s.statusHandler(), s.healthHandler(), s.prometheusHandler()}
	for i, address := range addresses {
		if address == "" {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			s.closeLocked()
			return fmt.Errorf("admin: %s port: %w", portNames[i], err)
		}
		s.ports[i] = &port{listener: l, server: newHTTPServer(handlers[i], s.log)}
		if i == adminPort && !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
			s.closeLocked()
			return fmt.Errorf("admin: address %s is not loopback: the admin port has no authentication", address)
		}
	}
	s.bound = true
	return nil
}

// newHTTPServer bounds what a client can hold up. The health and metrics ports are open to the whole cluster.
func newHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h,
		// Heads are small and come at once; a minute of idling covers the intervals of probes and scrapes.
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		// Scrapers that break off are not worth more than debug.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// Run binds the ports if need be and serves them until ctx ends (then it returns nil) or one of them fails.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	failed := make(chan error, portCount)
	for i, p := range s.ports {
		if p == nil {
			continue
		}
		go func() {
			if err := p.server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("admin: %s port: %w", portNames[i], err)
			}
		}()
	}
	defer s.Close()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// Close closes the ports with their connections. It may be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
}

func (s *Server) closeLocked() {
	for _, p := range s.ports {
		if p != nil {
			_ = p.server.Close() // nobody is there to hear of it
			_ = p.listener.Close()
		}
	}
}

// AdminAddr returns where the admin port is bound, nil if it is left out.
func (s *Server) AdminAddr() net.Addr { return s.addr(adminPort) }

// StatusAddr returns where the status port is bound, nil if it is left out.
func (s *Server) StatusAddr() net.Addr { return s.addr(statusPort) }

// HealthAddr returns where the health port is bound, nil if it is left out.
func (s *Server) HealthAddr() net.Addr { return s.addr(healthPort) }

// PrometheusAddr returns where the Prometheus port is bound, nil if it is left out.
func (s *Server) PrometheusAddr() net.Addr { return s.addr(prometheusPort) }

func (s *Server) addr(i int) net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ports[i] == nil {
		return nil
	}
	return s.ports[i].listener.Addr()
}
