package waypoint

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/config"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
	"github.com/gowaypoint/gowaypoint/xdsclient"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// updater turns what istiod sends into the Program in force.
//
//	Apply (xDS client)   validates each resource, keeps it, answers ACK or NACK at once
//	run (own goroutine)  compiles what is there, subscribes to what it names, and swaps when it is warm
//
// Make before break: a new Program waits until the clusters that are new in it have their endpoints (EDS), so that a route never
// leads to a cluster that merely has not heard of its endpoints yet.
type updater struct {
	s        *Server
	compiler *config.Compiler
	changed  chan struct{} // capacity 1: something came

	mu      sync.Mutex
	res     config.Resources
	changes config.Changes // since the last compile

	wasReady atomic.Bool
	bindErr  atomic.Pointer[error]
	// Figures for admin and metrics.
	compiles    atomic.Uint64
	compileTime atomic.Int64 // of the last one, nanoseconds
	swapped     atomic.Int64 // unix nanoseconds of the last swap
}

// warmTimeout is how long a Program waits for the endpoints of its new clusters once there is one in force. istiod pushes EDS
// right after CDS, so a healthy one needs milliseconds; a policy change must not wait for a broken one for long. The first
// Program waits for ever, like Envoy (initial_fetch_timeout 0): there is nothing to serve meanwhile.
const warmTimeout = 5 * time.Second

// pruneAfter is how long clusters that are gone are kept for requests which began before.
const pruneAfter = 5 * time.Second

func newUpdater(s *Server) *updater {
	return &updater{s: s, compiler: config.New(s.compilerOptions()), changes: config.Changes{}, changed: make(chan struct{}, 1)}
}

// Apply implements xdsclient.Handler.
func (u *updater) Apply(up *xdsclient.Update) []xdsclient.Rejection {
	switch up.TypeURL {
	case xdsclient.TypeWorkload:
		return u.s.peers.Apply(up)
	case xdsclient.TypeSecret:
		return u.applySecrets(up)
	}
	type accepted struct {
		name string
		r    config.Resource
	}
	var rejected []xdsclient.Rejection
	var good []accepted
	for _, r := range up.Changed {
		m, err := r.Message()
		if err != nil {
			rejected = append(rejected, r.Reject("", err.Error()))
			continue
		}
		if problems := config.Problems(config.Validate(up.TypeURL, r.Name, m)); len(problems) > 0 {
			for _, p := range problems {
				rejected = append(rejected, r.Reject(p.Field, p.Reason))
			}
			continue
		}
		good = append(good, accepted{r.Name, config.Resource{Raw: r.Value}})
	}
	u.mu.Lock()
	if set := u.res.Of(up.TypeURL, true); set != nil {
		for _, g := range good {
			set[g.name] = g.r
			u.changes[up.TypeURL] = append(u.changes[up.TypeURL], g.name)
		}
		for _, name := range up.Removed {
			delete(set, name)
			u.changes[up.TypeURL] = append(u.changes[up.TypeURL], name)
		}
	}
	u.mu.Unlock()
	u.poke()
	return rejected
}

func (u *updater) applySecrets(up *xdsclient.Update) []xdsclient.Rejection {
	var rejected []xdsclient.Rejection
	for _, r := range up.Changed {
		m, err := r.Message()
		if err == nil {
			if sec, ok := m.(*tlsv3.Secret); ok {
				err = u.s.secrets.SetXDS(r.Name, r.Version, sec)
			} else {
				err = fmt.Errorf("is a %T and not a Secret", m)
			}
		}
		if err != nil {
			rejected = append(rejected, r.Reject("", err.Error()))
		}
	}
	for _, name := range up.Removed {
		u.s.secrets.RemoveXDS(name)
	}
	u.poke()
	return rejected
}

func (u *updater) poke() {
	select {
	case u.changed <- struct{}{}:
	default:
	}
}

// run compiles and swaps until ctx ends.
func (u *updater) run(ctx context.Context) error {
	cancel := u.s.secrets.Subscribe(func(string) { u.poke() }) // readiness and cold clusters may depend on it
	defer cancel()
	var timer <-chan time.Time
	givenUp := map[string]bool{} // clusters that stayed cold too long: they hold up nothing any more
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-u.changed:
		case <-timer:
			timer = nil
			for name, c := range u.compile().Clusters {
				if !c.Warm {
					u.s.log.Warn("cluster has no endpoints yet; going on without", "cluster", name)
					givenUp[name] = true
				}
			}
		}
		p := u.compile()
		if u.cold(p, givenUp) {
			if timer == nil && u.swapped.Load() != 0 {
				timer = time.After(warmTimeout)
			}
			continue
		}
		timer = nil
		u.swap(p)
	}
}

// compile compiles what has changed, and asks istiod for what it names. Apply waits meanwhile: a push of one endpoint takes
// milliseconds, and the answer to the next one is not late for it.
func (u *updater) compile() *program.Program {
	u.mu.Lock()
	defer u.mu.Unlock()
	changes := u.changes
	u.changes = config.Changes{}
	began := time.Now()
	p, report := u.compiler.CompileChanged(u.res, changes)
	u.compiles.Add(1)
	u.compileTime.Store(int64(time.Since(began)))
	u.s.report.Store(report)
	for _, e := range report.New {
		u.s.log.Warn("configuration field is not honoured", "field", e.Path, "class", e.Class.String(), "why", e.Why,
			"resource", e.Resource, "value", e.Example)
	}
	x := u.s.xds
	x.SetNames(xdsclient.TypeEndpoint, u.compiler.EDSNames()...)
	x.SetNames(xdsclient.TypeExtensionConfig, u.compiler.ECDSNames()...)
	x.SetNames(xdsclient.TypeRoute, u.compiler.RDSNames()...)
	var ads []string
	for _, sec := range u.compiler.SecretNames() {
		u.s.secrets.Require(sec.Name)
		if sec.ADS {
			ads = append(ads, sec.Name)
		}
	}
	x.SetNames(xdsclient.TypeSecret, ads...)
	return p
}

// cold tells whether a Program must wait: for the first listeners, or for endpoints of clusters that are new.
func (u *updater) cold(p *program.Program, givenUp map[string]bool) bool {
	if u.swapped.Load() == 0 && (len(p.Listeners) == 0 || u.s.xds.Stats(xdsclient.TypeCluster).Accepted == 0) {
		return true
	}
	for name, c := range p.Clusters {
		if !c.Warm && !givenUp[name] {
			if old := u.s.current.Load().Clusters[name]; old == nil || old.Warm {
				return true
			}
		}
	}
	return false
}

func (u *updater) swap(p *program.Program) {
	s := u.s
	s.clusters.Update(p)
	s.current.Store(p)
	if err := s.bind(p); err != nil {
		s.log.Error("listener not bound", "error", err)
		u.bindErr.Store(&err)
	} else {
		u.bindErr.Store(nil)
	}
	u.swapped.Store(time.Now().UnixNano()) // only now: readiness asks for it, and the ports have to be open by then
	s.contexts.keep(p)
	s.sessions.recheck()
	time.AfterFunc(pruneAfter, func() { s.clusters.Prune(s.current.Load()) })
}

func (u *updater) bindError() error {
	if e := u.bindErr.Load(); e != nil {
		return *e
	}
	return nil
}
