package bootstrap

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/gowaypoint/gowaypoint/waypoint/identity"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshv1 "istio.io/api/mesh/v1alpha1"
)

// Options are the inputs of [Load].
type Options struct {
	Args []string // after the program name, e.g. "proxy", "waypoint", "--domain", …
	Env  []string // as os.Environ
	Root string   // directory that stands for "/"; "" means "."
	// Version of this program, major.minor.patch, for the node's build version.
	Version string
	// Interfaces returns the addresses of the network interfaces; nil asks the operating system.
	Interfaces func() ([]net.Addr, error)
}

// Bootstrap is everything that is known at start. It is not changed after Load.
type Bootstrap struct {
	Flags       Flags
	Root        string
	Node        *corev3.Node
	Labels      map[string]string // of the pod, without pod-template-hash
	Annotations map[string]string
	IPs         []netip.Addr // first: the one in the node ID; never empty
	ProxyConfig *meshv1.ProxyConfig

	Discovery Discovery
	Identity  identity.SourceConfig
	// ExtraAnchors are the PEM roots of ProxyConfig.caCertificatesPem, for identity.Store.SetExtraAnchors.
	ExtraAnchors []string
	// FileDebounce (FILE_DEBOUNCE_DURATION, 100 ms) for identity.StoreOptions.Debounce.
	FileDebounce time.Duration
	// CompliancePolicy (COMPLIANCE_POLICY): "", "fips-140-2", "fips-140-3" or "pqc". istiod puts its
	// demands into the TLS contexts; this is for connections of our own.
	CompliancePolicy string

	Ports Ports
	Drain Drain
	Stats Stats
	// Concurrency is the number of threads to use (GOMAXPROCS); 0: all. From --concurrency, ProxyConfig, or
	// ISTIO_CPU_LIMIT, which keeps a pod with two CPUs on a large machine from being throttled.
	Concurrency int
	// KeepFragment (HTTP_STRIP_FRAGMENT_FROM_PATH_UNSAFE_IF_DISABLED=false) is set when the author wants
	// URL fragments kept. Stripping (the default) is what keeps `/a#x` and `/a` under one policy.
	KeepFragment bool

	// Reports lists what is set and not honoured, sorted by field.
	Reports []Report
}

// Discovery says how to reach istiod's xDS server.
type Discovery struct {
	Address    string // host:port; ProxyConfig.discoveryAddress
	ServerName string // in istiod's certificate: ISTIOD_SAN, else the host; localhost means istiod.istio-system.svc
	Plaintext  bool   // controlPlaneAuthPolicy NONE
	// SendTokenInPlaintext (XDS_AUTH_PLAINTEXT) sends the bearer token although there is no TLS.
	SendTokenInPlaintext bool
	// RootCA (XDS_ROOT_CA) is a file or "SYSTEM"; "" means ./var/run/secrets/istio/root-cert.pem.
	RootCA string
	// TokenFile is the bearer token's file, read for each call; "" when JWT_POLICY is none.
	TokenFile         string
	ClusterID         string            // metadata `clusterid`
	Headers           map[string]string // further metadata, XDS_HEADER_*
	KeepaliveInterval time.Duration     // GRPC_KEEPALIVE_INTERVAL, 30 s
	KeepaliveTimeout  time.Duration     // GRPC_KEEPALIVE_TIMEOUT, 10 s
}

// Ports on which the waypoint listens besides what xDS says.
type Ports struct {
	Admin      int // 15000, loopback only: istioctl port-forwards here
	Status     int // 15020: merged metrics, readiness of the agent
	Health     int // 15021: /healthz/ready for the kubelet (ENVOY_STATUS_PORT)
	Prometheus int // 15090: the proxy's metrics (ENVOY_PROMETHEUS_PORT)
}

// Drain says how to end after SIGTERM.
type Drain struct {
	// Termination (ProxyConfig.terminationDrainDuration, 5 s) is how long to serve on, unless ExitOnZero.
	Termination time.Duration
	// Drain (ProxyConfig.drainDuration, 45 s) is how long listeners stay open while draining.
	Drain time.Duration
	// ExitOnZero (EXIT_ON_ZERO_ACTIVE_CONNECTIONS) waits until no connection is left instead.
	ExitOnZero bool
	// Minimum (MINIMUM_DRAIN_DURATION, 5 s) passes before connections are counted: clients that have not
	// yet seen the endpoint go are still coming.
	Minimum time.Duration
}

// istiodHost stands in when istiod is reached through localhost (a port-forward in development).
const istiodHost = "istiod.istio-system.svc"

// Load works out the bootstrap. Errors are settings without which the waypoint must not run.
func Load(o Options) (*Bootstrap, error) {
	if o.Root == "" {
		o.Root = "."
	}
	flags, flagReports, err := ParseFlags(o.Args)
	if err != nil {
		return nil, err
	}
	rep := &reports{list: flagReports}
	env := newEnviron(o.Env, rep)
	env.reportNotHonoured()
	b := &Bootstrap{Flags: flags, Root: o.Root}

	if err := b.readPodInfo(env); err != nil {
		return nil, err
	}
	if err := checkLabels(b.Labels, env); err != nil {
		return nil, err
	}
	if err := b.buildProxyConfig(env); err != nil {
		return nil, err
	}
	reportProxyConfig(b.ProxyConfig, rep)
	if b.IPs, err = instanceIPs(env.vars["INSTANCE_IP"], o.Interfaces); err != nil {
		return nil, err
	}
	b.Ports = Ports{
		Admin: int(b.ProxyConfig.GetProxyAdminPort()), Status: int(b.ProxyConfig.GetStatusPort()),
		Health: env.port("ENVOY_STATUS_PORT", 15021), Prometheus: env.port("ENVOY_PROMETHEUS_PORT", 15090),
	}
	b.Drain = Drain{
		Termination: b.ProxyConfig.GetTerminationDrainDuration().AsDuration(),
		Drain:       b.ProxyConfig.GetDrainDuration().AsDuration(),
		ExitOnZero:  env.boolean("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", false),
		Minimum:     env.duration("MINIMUM_DRAIN_DURATION", 5*time.Second),
	}
	b.Concurrency = int(b.ProxyConfig.GetConcurrency().GetValue())
	b.ExtraAnchors = b.ProxyConfig.GetCaCertificatesPem()
	b.FileDebounce = env.duration("FILE_DEBOUNCE_DURATION", 100*time.Millisecond)
	b.KeepFragment = !env.boolean("HTTP_STRIP_FRAGMENT_FROM_PATH_UNSAFE_IF_DISABLED", true)
	if b.KeepFragment {
		rep.add(true, "env HTTP_STRIP_FRAGMENT_FROM_PATH_UNSAFE_IF_DISABLED", "false", "fragments are stripped all the same, so that policy and backend see one path")
	}
	if err := b.buildIdentity(env); err != nil {
		return nil, err
	}
	b.Stats = newStats(b.ProxyConfig, b.Annotations, b.Drain.ExitOnZero, b.IPs, rep)
	b.Node, err = newNode(nodeInput{
		flags: flags, env: env, ips: b.IPs, labels: b.Labels, annotations: b.Annotations,
		proxyConfig: b.ProxyConfig, ports: b.Ports, exitOnZero: b.Drain.ExitOnZero,
		pilotSAN: b.Discovery.ServerName, version: o.Version,
	})
	if err != nil {
		return nil, err
	}
	b.Reports = rep.sorted()
	return b, nil
}

func (b *Bootstrap) readPodInfo(env environ) error {
	labels, err := readPodInfo(b.Root, "labels")
	if err != nil {
		return err
	}
	// ISTIO_METAJSON_LABELS has lower precedence than the pod's own labels.
	b.Labels = map[string]string{}
	if text := env.vars["ISTIO_METAJSON_LABELS"]; text != "" {
		for k, v := range jsonStrings(text) {
			b.Labels[k] = v
		}
	}
	for k, v := range labels {
		if k != "pod-template-hash" { // changes with each rollout and means nothing to istiod
			b.Labels[k] = v
		}
	}
	if b.Annotations, err = readPodInfo(b.Root, "annotations"); err != nil {
		return err
	}
	if _, ok := b.Annotations["sidecar.istio.io/bootstrapOverride"]; ok {
		env.rep.add(true, "annotation sidecar.istio.io/bootstrapOverride", b.Annotations["sidecar.istio.io/bootstrapOverride"], "there is no Envoy bootstrap to override")
	}
	return nil
}

// buildProxyConfig merges the sources in the order that the package comment gives.
func (b *Bootstrap) buildProxyConfig(env environ) error {
	pc := defaultProxyConfig()
	b.ProxyConfig = pc
	path := b.Flags.MeshConfigFile
	if !filepath.IsAbs(path) {
		path = filepath.Join(b.Root, path)
	}
	mesh, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--meshConfig: %w", err)
	}
	if mesh, err = meshDefaultConfig(mesh); err != nil {
		return fmt.Errorf("--meshConfig %s: %w", path, err)
	}
	for _, src := range []struct{ name, text string }{
		{"defaultConfig of " + b.Flags.MeshConfigFile, string(mesh)},
		{"env PROXY_CONFIG", env.vars["PROXY_CONFIG"]},
		{"annotation proxy.istio.io/config", b.Annotations["proxy.istio.io/config"]},
	} {
		if strings.TrimSpace(src.text) == "" {
			continue
		}
		if err := mergeProxyConfig(pc, src.name, []byte(src.text), env.rep); err != nil {
			return err
		}
	}
	if v, ok := b.Annotations["sidecar.istio.io/discoveryAddress"]; ok {
		pc.DiscoveryAddress = v
	}
	if v, ok := b.Annotations["status.sidecar.istio.io/port"]; ok {
		port, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			return fmt.Errorf("annotation status.sidecar.istio.io/port is %q: want a port number", v)
		}
		pc.StatusPort = int32(port) //nolint:gosec // parsed as 16 bits
	}
	if c, ok := pc.GetClusterName().(*meshv1.ProxyConfig_ServiceCluster); ok && (c.ServiceCluster == "" || c.ServiceCluster == defaultServiceCluster) {
		pc.ClusterName = &meshv1.ProxyConfig_ServiceCluster{ServiceCluster: b.Flags.ServiceCluster}
	}
	switch limit := env.integer("ISTIO_CPU_LIMIT", 0); {
	case b.Flags.Concurrency > 0:
		pc.Concurrency = wrapperspb.Int32(int32(min(b.Flags.Concurrency, 1<<16))) //nolint:gosec // bounded
	case pc.GetConcurrency().GetValue() == 0 && limit > 0:
		pc.Concurrency = wrapperspb.Int32(int32(min(limit, 1<<16))) //nolint:gosec // bounded
	}
	return validateProxyConfig(pc)
}

func validateProxyConfig(pc *meshv1.ProxyConfig) error {
	if _, _, err := net.SplitHostPort(pc.GetDiscoveryAddress()); err != nil {
		return fmt.Errorf("discoveryAddress is %q: want host:port of istiod: %w", pc.GetDiscoveryAddress(), err)
	}
	for name, port := range map[string]int32{"proxyAdminPort": pc.GetProxyAdminPort(), "statusPort": pc.GetStatusPort()} {
		if port < 1 || port > 65535 {
			return fmt.Errorf("ProxyConfig.%s is %d: want a port number", name, port)
		}
	}
	if pc.GetConcurrency().GetValue() < 0 {
		return fmt.Errorf("ProxyConfig.concurrency is %d: want 0 or more", pc.GetConcurrency().GetValue())
	}
	if pc.GetTerminationDrainDuration().AsDuration() < 0 || pc.GetDrainDuration().AsDuration() < 0 {
		return errors.New("ProxyConfig.drainDuration and terminationDrainDuration must not be negative")
	}
	return nil
}

// instanceIPs returns the pod's addresses: INSTANCE_IP first, then those of the interfaces that are neither
// loopback nor link-local, without repeats.
func instanceIPs(first string, interfaces func() ([]net.Addr, error)) ([]netip.Addr, error) {
	var out []netip.Addr
	if first != "" {
		ip, err := netip.ParseAddr(first)
		if err != nil {
			return nil, fmt.Errorf("INSTANCE_IP: %w", err)
		}
		out = append(out, ip.Unmap())
	}
	if interfaces == nil {
		interfaces = net.InterfaceAddrs
	}
	addrs, err := interfaces()
	if err != nil && len(out) == 0 {
		return nil, fmt.Errorf("INSTANCE_IP is not set and the network interfaces cannot be listed: %w", err)
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if ip = ip.Unmap(); ok && ip.IsGlobalUnicast() && !slices.Contains(out, ip) {
			out = append(out, ip)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("INSTANCE_IP is not set and no interface has an address: istiod finds this pod by its IP")
	}
	return out, nil
}
