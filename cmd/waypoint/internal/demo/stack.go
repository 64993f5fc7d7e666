package demo

import (
	"context"
	"crypto/x509"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/ca"
	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/controlplane"
	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/manifests"
	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo/node"
	"github.com/gowaypoint/gowaypoint/waypoint"
	"github.com/gowaypoint/gowaypoint/waypoint/admin"
	"github.com/gowaypoint/gowaypoint/waypoint/bootstrap"
	"github.com/gowaypoint/gowaypoint/waypoint/identity"
	"github.com/gowaypoint/gowaypoint/xdsclient"
)

//go:embed default/*.yaml once/*.yaml
var embedded embed.FS

// Options are those of the command.
type Options struct {
	// Dir holds the manifests; "" takes the embedded ones.
	Dir string
	// Listen is the way in; default 127.0.0.1:8080, or any port when that is taken.
	Listen string
	// AnyPort takes free ports for everything rather than the well-known ones.
	AnyPort bool
	Out     io.Writer
	// Log takes the waypoint's own log; nil: a file, which is named at start.
	Log *slog.Logger
	// Version of this program, for the bootstrap.
	Version string
	// Admin says what the admin pages show, as in `waypoint proxy`.
	Admin func(s *waypoint.Server, reports []bootstrap.Report, level *slog.LevelVar, quit func()) admin.Sources
}

// stack is everything, running.
type stack struct {
	o       Options
	dir     string // temporary: the pod's file system
	log     *slog.Logger
	logFile string
	level   slog.LevelVar // of the file; the admin page /logging changes it

	ca          *ca.CA
	control     *controlplane.Server
	network     *node.Network
	client      *node.Client
	destination *node.Destination
	server      *waypoint.Server
	admin       *admin.Server
	spans       *spans
	lines       *lines
	entry       *entry

	mesh      atomic.Pointer[manifests.Mesh]
	resources controlplane.Resources
	putAt     time.Time  // when the control plane got them
	address   netip.Addr // of the waypoint pod
	closers   []func()   // in order of start
}

// waypointIP is the waypoint pod's address. It is out of the range from which pods get theirs.
var waypointIP = netip.MustParseAddr("10.245.0.1")

// readFiles reads the manifests.
func readFiles(dir string) ([]manifests.File, error) {
	if dir != "" {
		return manifests.ReadDir(dir)
	}
	return embeddedFiles("default")
}

func embeddedFiles(dir string) ([]manifests.File, error) {
	entries, err := fs.ReadDir(embedded, dir)
	if err != nil {
		return nil, err
	}
	var out []manifests.File
	for _, e := range entries {
		b, err := embedded.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, manifests.File{Name: e.Name(), Data: b})
	}
	return out, nil
}

// start brings everything up and waits until the waypoint is ready. Close ends it.
func start(ctx context.Context, o Options, files []manifests.File) (s *stack, err error) {
	s = &stack{o: o, address: waypointIP, network: node.NewNetwork()}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	mesh, err := manifests.Load(files)
	if err != nil {
		return s, err
	}
	if s.dir, err = os.MkdirTemp("", "waypoint-demo-"); err != nil {
		return s, err
	}
	s.closers = append(s.closers, func() { _ = os.RemoveAll(s.dir) }) // a leftover in the temporary directory harms nobody
	if err := s.openLog(); err != nil {
		return s, err
	}
	if s.ca, err = ca.New(); err != nil {
		return s, err
	}
	if s.spans, err = newSpans(); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.spans.close)
	if err := s.startControlPlane(ctx); err != nil {
		return s, err
	}
	s.client = node.NewClient(s.ca, s.network)
	s.destination = node.NewDestination(s.ca, s.network, s.log)
	s.closers = append(s.closers, s.destination.Close)
	if err := s.put(mesh); err != nil {
		return s, err
	}
	if err := s.startWaypoint(ctx, mesh.Waypoint); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.client.Close) // first to go: then the drain has nothing to wait for
	if s.lines, err = newLines(s.accessLog()); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.lines.close)
	if s.entry, err = newEntry(s); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.entry.close)
	return s, s.awaitReady(ctx)
}

// Close ends everything, in the opposite order.
func (s *stack) Close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	s.closers = nil
}

func (s *stack) openLog() error {
	if s.log = s.o.Log; s.log != nil {
		return nil
	}
	f, err := os.CreateTemp("", "waypoint-demo-*.log") // outlives the demo, for those who look afterwards
	if err != nil {
		return err
	}
	s.logFile = f.Name()
	s.log = slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: &s.level}))
	s.closers = append(s.closers, func() { _ = f.Close() })
	return nil
}

// dropLog removes the log's file: all went well, and nobody will look for it.
func (s *stack) dropLog() {
	if s.logFile != "" {
		_ = os.Remove(s.logFile) // a leftover in the temporary directory harms nobody
	}
}

func (s *stack) accessLog() string { return filepath.Join(s.dir, "access.log") }

func (s *stack) startControlPlane(ctx context.Context) error {
	control, l, err := controlplane.NewServer(context.WithoutCancel(ctx), s.ca)
	if err != nil {
		return err
	}
	s.control = control
	go func() {
		if err := control.Serve(l); err != nil {
			s.log.Error("control plane ended", "error", err)
		}
	}()
	s.closers = append(s.closers, control.Close)
	return nil
}

// put makes a mesh the one in force, as far as the demo's own parts go. The waypoint follows; see inForce.
func (s *stack) put(mesh *manifests.Mesh) error {
	if old := s.mesh.Load(); old != nil && old.Waypoint != mesh.Waypoint {
		return fmt.Errorf("the waypoint was %s/%s at start and cannot be another one now; start the demo anew", old.Waypoint.Namespace, old.Waypoint.Name)
	}
	resources, err := controlplane.Build(mesh, controlplane.Options{AccessLog: s.accessLog(), Collector: s.spans.addr()})
	if err != nil {
		return err
	}
	if err := s.destination.Sync(mesh.Pods); err != nil {
		return err
	}
	s.mesh.Store(mesh)
	s.resources, s.putAt = resources, time.Now()
	return s.control.Set(resources)
}

// startWaypoint runs the proxy as its pod would: what it knows comes from the environment and from mounted files.
func (s *stack) startWaypoint(ctx context.Context, w manifests.Waypoint) error {
	account := manifests.Account(w)
	for file, text := range map[string]string{
		"var/run/secrets/istio/root-cert.pem": string(s.ca.RootPEM()),
		"var/run/secrets/tokens/istio-token":  s.ca.Token(account.Principal()),
		"etc/istio/pod/labels":                fmt.Sprintf("gateway.istio.io/managed=\"istio.io-mesh-controller\"\ngateway.networking.k8s.io/gateway-name=%q\n", w.Name),
	} {
		file = filepath.Join(s.dir, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
	}
	b, err := bootstrap.Load(bootstrap.Options{
		Args: []string{"proxy", "waypoint", "--domain", w.Namespace + ".svc." + manifests.TrustDomain, "--serviceCluster", w.Name + "." + w.Namespace},
		Env: []string{
			"POD_NAME=" + w.Name + "-demo", "POD_NAMESPACE=" + w.Namespace, "INSTANCE_IP=" + s.address.String(), "SERVICE_ACCOUNT=" + w.Name,
			"TRUST_DOMAIN=" + manifests.TrustDomain, "CA_ADDR=" + s.control.Addr(), "ISTIO_META_CLUSTER_ID=Kubernetes", "ECC_SIGNATURE_ALGORITHM=ECDSA",
			fmt.Sprintf("PROXY_CONFIG={\"discoveryAddress\":%q,\"terminationDrainDuration\":\"0.1s\"}", s.control.Addr()),
		},
		Root: s.dir, Version: s.o.Version, Interfaces: func() ([]net.Addr, error) { return nil, nil },
	})
	if err != nil {
		return err
	}
	store := identity.NewStore(identity.StoreOptions{Root: b.Root, Log: s.log})
	b.Identity.Log = s.log
	source, err := identity.NewSource(b.Identity)
	if err != nil {
		return err
	}
	token := s.ca.Token(account.Principal())
	s.server, err = waypoint.New(waypoint.Config{
		Node: b.Node, Identity: source, Secrets: store, Logger: s.log,
		XDS: xdsclient.Config{
			Target: b.Discovery.Address, ServerName: controlplane.Host,
			RootCAs: func() (*x509.CertPool, error) { return s.ca.Pool(), nil }, Token: func() (string, error) { return token, nil },
		},
		Listen: s.network.Listen(s.address), Dialer: s.network,
		Drain: waypoint.Drain{Grace: b.Drain.Termination},
	})
	if err != nil {
		return err
	}
	// The proxy ends when the demo says so, after the nodes, and not with the interrupt that ends the demo.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	s.closers = append(s.closers, func() { stop(); wg.Wait(); store.Close() })
	wg.Go(func() {
		if err := s.server.Run(run); err != nil {
			s.log.Error("the waypoint ended", "error", err)
		}
	})
	return s.startAdmin(run, &wg, b, stop)
}

// startAdmin opens the admin ports on loopback: the well-known ones where they are free.
func (s *stack) startAdmin(ctx context.Context, wg *sync.WaitGroup, b *bootstrap.Bootstrap, quit func()) error {
	addr := func(port int) string { return s.pickPort(fmt.Sprintf("127.0.0.1:%d", port)) }
	s.admin = admin.New(s.o.Admin(s.server, b.Reports, &s.level, quit), admin.Options{
		AdminAddr: addr(b.Ports.Admin), StatusAddr: addr(b.Ports.Status), HealthAddr: addr(b.Ports.Health), PrometheusAddr: addr(b.Ports.Prometheus),
		Logger: s.log,
	})
	if err := s.admin.Listen(); err != nil {
		return err
	}
	wg.Go(func() {
		if err := s.admin.Run(ctx); err != nil {
			s.log.Error("the admin ports ended", "error", err)
		}
	})
	return nil
}

// pickPort returns the address if it is free, and any port of its host if it is not.
func (s *stack) pickPort(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address // whoever binds it will say what is wrong
	}
	if !s.o.AnyPort {
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	return net.JoinHostPort(host, "0")
}

// readyTimeout is ample: all is local, and the key and the certificate take a few milliseconds.
const readyTimeout = 20 * time.Second

func (s *stack) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := s.server.Ready()
		if err == nil {
			return s.awaitInForce(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the waypoint is not ready: %w (its log: %s)", errors.Join(err, ctx.Err()), s.logFile)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
