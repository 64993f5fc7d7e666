package admin

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/bootstrap"
	"github.com/gowaypoint/gowaypoint/waypoint/cluster"
	"github.com/gowaypoint/gowaypoint/waypoint/config"
	"github.com/gowaypoint/gowaypoint/waypoint/identity"
	"github.com/gowaypoint/gowaypoint/xdsclient"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// XDS is what the pages ask the xDS client; [*xdsclient.Client] has it.
type XDS interface {
	Types() []string
	Snapshot(typeURL string) xdsclient.TypeSnapshot
	Stats(typeURL string) xdsclient.TypeStats
	Status() xdsclient.Status
}

// Sources are what the pages show and do. XDS and Registry must be set; any other may be left out, and its page is empty then.
// All functions are called from many goroutines.
type Sources struct {
	// Node is what istiod knows the proxy by.
	Node *corev3.Node
	// Bootstrap is the bootstrap section of /config_dump. nil: one made of Node and the addresses.
	Bootstrap *bootstrapv3.Bootstrap
	// Settings are those that are set and not honoured; /census lists them.
	Settings []bootstrap.Report
	// Version of the program (major.minor.patch) and the revision that it was built from.
	Version, Revision string
	// Started is when the process began; zero: when New is called.
	Started time.Time

	XDS     XDS
	Secrets func() []identity.SecretStatus
	// Report is the census of the configuration in force.
	Report   func() *config.Report
	Clusters func() map[string]*cluster.Cluster
	// Listeners are the sockets of the configuration in force.
	Listeners func() []Listener
	// Workloads is the number of workloads known (WDS).
	Workloads func() int

	// Ready returns nil when the pod may be sent traffic. Once nil it stays so, but for draining.
	Ready    func() error
	Draining func() bool
	// Drain starts to drain. With skipExit the process goes on afterwards, until SIGTERM, which then ends it at once.
	Drain func(skipExit bool)
	// Quit ends the process without draining.
	Quit func()

	Registry *metrics.Registry
	// Level is that of the process's logger, which POST /logging changes.
	Level *slog.LevelVar
}

// Listener is a bound listener.
type Listener struct {
	Name      string
	Addresses []netip.AddrPort
}

// orEmpty fills in what was left out.
func (s *Sources) orEmpty() {
	if s.Node == nil {
		s.Node = &corev3.Node{}
	}
	if s.Started.IsZero() {
		s.Started = time.Now()
	}
	if s.Secrets == nil {
		s.Secrets = func() []identity.SecretStatus { return nil }
	}
	if s.Report == nil {
		s.Report = func() *config.Report { return &config.Report{} }
	}
	if s.Clusters == nil {
		s.Clusters = func() map[string]*cluster.Cluster { return nil }
	}
	if s.Listeners == nil {
		s.Listeners = func() []Listener { return nil }
	}
	if s.Workloads == nil {
		s.Workloads = func() int { return 0 }
	}
	if s.Ready == nil {
		s.Ready = func() error { return nil }
	}
	if s.Draining == nil {
		s.Draining = func() bool { return false }
	}
	if s.Level == nil {
		s.Level = &slog.LevelVar{}
	}
}
