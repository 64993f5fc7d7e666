package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint"
	"github.com/gowaypoint/gowaypoint/waypoint/admin"
	"github.com/gowaypoint/gowaypoint/waypoint/bootstrap"
	"github.com/gowaypoint/gowaypoint/waypoint/identity"
	"github.com/gowaypoint/gowaypoint/xdsclient"
)

func proxyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "proxy waypoint [flags]",
		Short: "Run the waypoint, with pilot-agent's arguments and environment",
		// The bootstrap reads the flags itself: those it does not know are reported and skipped.
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return proxy(cmd.Context(), args)
		},
	}
}

// memoryShare of the container's limit is the garbage collector's, as in pilot-agent; the rest is the kernel's, whose socket
// buffers count against the same limit.
const memoryShare = 0.9

// limitMemory takes the memory limit from the container. A smaller GOMEMLIMIT in the environment wins; an equal one is what
// the stock template sets, and would leave nothing for the kernel.
func limitMemory(log *slog.Logger) {
	container, err := memlimit.FromCgroup()
	if err != nil {
		log.Debug("the container has no memory limit", "error", err)
		return
	}
	if set := debug.SetMemoryLimit(-1); set < 0 || uint64(set) >= container {
		debug.SetMemoryLimit(int64(float64(min(container, math.MaxInt64)) * memoryShare))
	}
}

func proxy(ctx context.Context, args []string) error {
	flags, _, err := bootstrap.ParseFlags(args)
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	level.Set(logLevel(flags.LogOutputLevel))
	log := newLogger(os.Stdout, flags.LogAsJSON, level)
	slog.SetDefault(log)

	b, err := bootstrap.Load(bootstrap.Options{Args: append([]string{"proxy"}, args...), Env: os.Environ(), Version: version})
	if err != nil {
		return err
	}
	b.Reports = append(b.Reports, leftOut(b)...)
	logStart(log, b)
	if b.Concurrency > 0 {
		runtime.GOMAXPROCS(b.Concurrency)
	}
	limitMemory(log)

	store := identity.NewStore(identity.StoreOptions{Root: b.Root, Log: log, Debounce: b.FileDebounce})
	defer store.Close()
	if err := store.SetExtraAnchors(b.ExtraAnchors); err != nil {
		return fmt.Errorf("ProxyConfig.caCertificatesPem: %w", err)
	}
	b.Identity.Log = log
	source, err := identity.NewSource(b.Identity)
	if err != nil {
		return err
	}
	log.Info("workload certificate", "source", source.String())

	server, err := waypoint.New(waypoint.Config{
		Node: b.Node, XDS: xdsConfig(b), Identity: source, Secrets: store, Network: b.Node.GetMetadata().GetFields()["NETWORK"].GetStringValue(),
		Registry: metrics.NewRegistry(metrics.MeshOptions{
			Version: b.Node.GetMetadata().GetFields()["ISTIO_VERSION"].GetStringValue(), Buckets: b.Stats.Buckets, Idle: b.Stats.EvictionInterval,
		}, log),
		Drain:  waypoint.Drain{Grace: b.Drain.Termination, ExitOnZero: b.Drain.ExitOnZero, Minimum: b.Drain.Minimum},
		Logger: log,
	})
	if err != nil {
		return err
	}
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	return serveWithAdmin(ctx, server, b, level, quit, log)
}

// serveWithAdmin runs the server and its admin ports; these answer through the drain.
func serveWithAdmin(ctx context.Context, server *waypoint.Server, b *bootstrap.Bootstrap, level *slog.LevelVar, quit func(), log *slog.Logger) error {
	a := admin.New(adminSources(server, b.Reports, level, quit), adminOptions(b, log))
	adminCtx, stopAdmin := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAdmin()
	failed := make(chan error, 1)
	go func() { failed <- a.Run(adminCtx) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if err := <-failed; err != nil {
			cancel(err)
		}
	}()
	if err := server.Run(ctx); err != nil {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// leftOut names the settings that the bootstrap has read and that nothing here acts on.
func leftOut(b *bootstrap.Bootstrap) []bootstrap.Report {
	var out []bootstrap.Report
	add := func(set bool, loud bool, field, value, why string) {
		if set {
			out = append(out, bootstrap.Report{Field: field, Value: value, Why: why, Loud: loud})
		}
	}
	d, st := &b.Discovery, &b.Stats
	add(b.CompliancePolicy != "", true, "env COMPLIANCE_POLICY", b.CompliancePolicy,
		"connections to istiod and its CA use Go's TLS defaults; those of the mesh are as istiod's TLS contexts say")
	add(d.SendTokenInPlaintext, true, "env XDS_AUTH_PLAINTEXT", "true", "the token is never sent without TLS")
	add(d.KeepaliveInterval != 30*time.Second, false, "env GRPC_KEEPALIVE_INTERVAL", d.KeepaliveInterval.String(), "istiod is asked every 30s")
	add(d.KeepaliveTimeout != 10*time.Second, false, "env GRPC_KEEPALIVE_TIMEOUT", d.KeepaliveTimeout.String(), "istiod has 10s to answer")
	add(len(st.ExtraTags) > 0, false, "extraStatTags", strings.Join(st.ExtraTags, ","), "metrics have Istio's labels only")
	return out
}

func logStart(log *slog.Logger, b *bootstrap.Bootstrap) {
	log.Info("gowaypoint", "version", version, "go", runtime.Version())
	log.Info("Proxy role", "type", "waypoint", "id", b.Node.GetId(), "ips", fmt.Sprint(b.IPs), "domain", b.Flags.Domain)
	log.Info("Effective config", "config", b.ProxyConfig.String())
	for _, r := range b.Reports {
		l := slog.LevelInfo
		if r.Loud {
			l = slog.LevelWarn
		}
		log.Log(context.Background(), l, "setting is not honoured", "setting", r.Field, "value", r.Value, "why", r.Why)
	}
}

// Where Istio's agent finds istiod's root certificate, relative to the root directory.
const istiodRoot = "var/run/secrets/istio/root-cert.pem"

func xdsConfig(b *bootstrap.Bootstrap) xdsclient.Config {
	d := b.Discovery
	c := xdsclient.Config{Target: d.Address, Plaintext: d.Plaintext, ServerName: d.ServerName, Metadata: map[string]string{}}
	for k, v := range d.Headers {
		c.Metadata[k] = v
	}
	if d.ClusterID != "" {
		c.Metadata["clusterid"] = d.ClusterID
	}
	if d.TokenFile != "" {
		c.Token = func() (string, error) {
			t, err := os.ReadFile(under(b.Root, d.TokenFile))
			return strings.TrimSpace(string(t)), err
		}
	}
	if !d.Plaintext {
		c.RootCAs = func() (*x509.CertPool, error) { return roots(b.Root, d.RootCA) }
	}
	return c
}

// roots reads istiod's root certificates anew for each connection: the file is a ConfigMap that may change.
func roots(root, file string) (*x509.CertPool, error) {
	if file == "SYSTEM" {
		return x509.SystemCertPool()
	}
	if file == "" {
		file = istiodRoot
	}
	pem, err := os.ReadFile(under(root, file))
	if err != nil {
		return nil, fmt.Errorf("istiod's root certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("istiod's root certificate: %s holds no certificate", file)
	}
	return pool, nil
}

func under(root, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(root, file)
}

func address(host string, port int) string {
	if port == 0 {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}
