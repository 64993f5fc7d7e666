package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/bench/backend"
	"github.com/gowaypoint/gowaypoint/e2e/bench/load"
	"github.com/gowaypoint/gowaypoint/e2e/bench/mesh"
	"github.com/gowaypoint/gowaypoint/e2e/bench/subject"
)

// Lab is where measurements are taken: identities and loopback addresses of this process's own.
type Lab struct {
	// Warm and Window are how long load runs before and in a measurement.
	Warm, Window time.Duration
	// ProxyCPUs are the processors of the proxies; empty: all.
	ProxyCPUs []int
	// Profiles is the directory for profiles of subjects that have them: CPU in the window, heap at its end. It costs them
	// something. Empty: none.
	Profiles string

	ca                    *mesh.CA
	client, pod, waypoint *mesh.Identity
	network               func(host byte) netip.Addr
}

// NewLab makes a lab.
func NewLab() (*Lab, error) {
	ca, err := mesh.NewCA()
	if err != nil {
		return nil, err
	}
	l := &Lab{Warm: time.Second, Window: 3 * time.Second, ca: ca}
	for account, id := range map[string]**mesh.Identity{"client": &l.client, "helloworld": &l.pod, "waypoint": &l.waypoint} {
		if *id, err = ca.Issue("default", account); err != nil {
			return nil, err
		}
	}
	// All of 127.0.0.0/8 is loopback on Linux. A network of our own lets several labs run on one machine.
	pid := os.Getpid()
	l.network = func(host byte) netip.Addr {
		return netip.AddrFrom4([4]byte{127, 64 | byte(pid>>8&63), byte(pid), host})
	} //nolint:gosec // truncated on purpose
	return l, nil
}

// Sample is one measurement. Figures that a row does not have are 0.
type Sample struct {
	Row     string    `json:"row"`
	Subject string    `json:"subject"`
	Round   int       `json:"round"`
	At      time.Time `json:"at"`

	Requests         uint64  `json:"requests,omitempty"`
	Seconds          float64 `json:"seconds,omitempty"`
	RequestsPerSec   float64 `json:"requests_per_second,omitempty"`
	CPUMicrosPerReq  float64 `json:"cpu_us_per_request,omitempty"` // user and system time of the proxy
	P50Micros        float64 `json:"p50_us,omitempty"`
	P99Micros        float64 `json:"p99_us,omitempty"`
	P999Micros       float64 `json:"p999_us,omitempty"`
	GeneratorLateP99 float64 `json:"generator_late_p99_us,omitempty"` // open loop: the part of the latency that is not the proxy's

	GigabitsPerSecond    float64 `json:"gbps,omitempty"` // of bodies
	CPUMicrosPerMegabyte float64 `json:"cpu_us_per_mb,omitempty"`

	ProxyPercent float64 `json:"proxy_percent,omitempty"` // of one processor, by the proxy
	LoadPercent  float64 `json:"load_percent,omitempty"`  // of one processor, by load and backend
	OtherPercent float64 `json:"other_percent,omitempty"` // of the proxy's processors, by neither: the machine's noise

	Memory              subject.Memory `json:"memory"`
	UpstreamConnections int64          `json:"upstream_connections"` // HBONE connections to the pod, since the start
	UpstreamTunnels     int64          `json:"upstream_tunnels"`     // CONNECTs that the pod answered, since the start
}

// session is one measurement under way.
type session struct {
	lab    *Lab
	proxy  subject.Proxy
	target load.Target
	get    *load.Request
	conns  []*load.Conn
	sample *Sample

	begin, end usage
	err        error // of reading usage
	profiling  sync.WaitGroup
}

type usage struct{ proxy, own, busy time.Duration }

// Measure starts a proxy, checks that it answers as it should, and runs the row.
func (l *Lab) Measure(ctx context.Context, s subject.Subject, row Row) (sample *Sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.Warm+l.Window+5*time.Minute)
	defer cancel()
	c := mesh.Config{Listen: l.network(3), Pod: l.network(2), VIP: netip.AddrFrom4([4]byte{10, 96, 0, 1}), Policy: row.Policy}
	b, err := backend.Start(netip.AddrPortFrom(c.Pod, mesh.HBONEPort).String(), netip.AddrPortFrom(c.Pod, mesh.ServicePort).String(),
		l.pod.TLS(l.waypoint.SPIFFE))
	if err != nil {
		return nil, err
	}
	defer b.Close()
	proxy, err := s.Start(ctx, subject.Setup{
		Config: c, Identity: l.waypoint, RootPEM: l.ca.RootPEM, Client: l.network(1), CPUs: l.ProxyCPUs,
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if stopped := proxy.Stop(); stopped != nil {
			err = errors.Join(err, stopped)
		}
	}()
	se := &session{
		lab: l, proxy: proxy, sample: &Sample{Row: row.Name, Subject: s.Name, At: time.Now().UTC()},
		target: load.Target{
			Addr: c.Address(), TLS: l.client.TLS(l.waypoint.SPIFFE), Authority: c.Authority(), Service: "helloworld:8080",
			Local: &net.TCPAddr{IP: l.network(1).AsSlice()},
		},
	}
	se.get = usual(se.target)
	defer func() { load.CloseAll(se.conns) }()
	if err := se.warm(ctx); err != nil {
		return nil, fmt.Errorf("%s does not answer as it should: %w\n%s", s.Name, err, proxy.Log())
	}
	runtime.GC() // the set-up's garbage is not the load's
	err = row.run(ctx, se)
	se.profiling.Wait()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(se.err, b.Err()); err != nil {
		return nil, err
	}
	if se.sample.Memory == (subject.Memory{}) {
		if se.sample.Memory, err = subject.MemoryOf(proxy.PID()); err != nil {
			return nil, err
		}
	}
	se.sample.UpstreamConnections, se.sample.UpstreamTunnels = b.Connections(), b.Tunnels()
	return se.sample, nil
}

// warmRequests is enough for every upstream connection's handshake and SETTINGS to be over, and for lazy set-up.
const warmRequests = 200

// warm is the one slow client. It also shows that policy is in force: a proxy that lets everything through has it easy.
func (s *session) warm(ctx context.Context) error {
	c, err := load.Dial(ctx, s.target)
	if err != nil {
		return err
	}
	defer c.Close()
	t, err := c.Tunnel()
	if err != nil {
		return err
	}
	for range warmRequests {
		if err := t.Do(s.get); err != nil {
			return err
		}
	}
	return errors.Join(t.Do(s.target.Refused("/")), t.Close())
}

func (s *session) window() load.Window {
	return load.Window{
		Warm: s.lab.Warm, Measure: s.lab.Window,
		Begin: func() { s.profile("profile", s.lab.Window); s.begin = s.usage() },
		End:   func() { s.end = s.usage(); s.profile("heap", 0) },
	}
}

// profile fetches a profile in the background.
func (s *session) profile(kind string, length time.Duration) {
	p, ok := s.proxy.(subject.Profiler)
	if !ok || s.lab.Profiles == "" {
		return
	}
	name := filepath.Join(s.lab.Profiles, s.sample.Subject+"-"+s.sample.Row+"."+kind+".pprof")
	s.profiling.Go(func() {
		text, err := p.Profile(kind, length)
		if err == nil {
			err = os.WriteFile(name, text, 0o644) //nolint:gosec // nothing secret
		}
		if err != nil {
			slog.Warn("no profile", "kind", kind, "error", err)
		}
	})
}

func (s *session) usage() (u usage) {
	var errs [3]error
	u.proxy, errs[0] = subject.CPU(s.proxy.PID())
	u.own, errs[1] = subject.CPU(os.Getpid())
	u.busy, errs[2] = subject.Busy(s.lab.ProxyCPUs)
	s.err = errors.Join(append(errs[:], s.err)...)
	return u
}

// take fills the sample from a run.
func (s *session) take(r *load.Result, err error) error {
	if err != nil {
		return err
	}
	if r.Requests == 0 {
		return errors.New("not one request was answered in time")
	}
	micros := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / r.Elapsed.Seconds() }
	o := s.sample
	o.Requests, o.Seconds, o.RequestsPerSec = r.Requests, r.Elapsed.Seconds(), r.Rate()
	proxy := s.end.proxy - s.begin.proxy
	o.CPUMicrosPerReq = micros(proxy) / float64(r.Requests)
	o.P50Micros, o.P99Micros, o.P999Micros = micros(r.Latency.Quantile(0.5)), micros(r.Latency.Quantile(0.99)), micros(r.Latency.Quantile(0.999))
	if r.Late != nil {
		o.GeneratorLateP99 = micros(r.Late.Quantile(0.99))
	}
	o.ProxyPercent, o.LoadPercent = percent(proxy), percent(s.end.own-s.begin.own)
	if len(s.lab.ProxyCPUs) > 0 { // else the load is among the others
		o.OtherPercent = percent(s.end.busy-s.begin.busy) - o.ProxyPercent
	}
	return nil
}
