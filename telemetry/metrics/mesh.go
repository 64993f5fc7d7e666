package metrics

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"istio.io/api/envoy/extensions/stats"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/cel"
)

// MeshOptions configure [NewMesh]. The zero value has Istio's defaults.
type MeshOptions struct {
	// Version is the Istio version that istio_build shows (node metadata ISTIO_VERSION). Empty: "unknown".
	Version string
	// Buckets are the upper bounds for the histograms whose metric name, without "istio_", begins with the key; the
	// longest prefix wins, "" is for all. They come from the annotation sidecar.istio.io/statsHistogramBuckets.
	// Default: Envoy's bounds.
	Buckets map[string][]float64
	// Idle is how long a series lives without use. Default 10 minutes: twice Prometheus' look-back of 5 minutes, so that
	// no query over a recent window loses the end of a series, while pods that are gone do not stay for hours.
	Idle time.Duration
	// MaxSeries bounds the label sets. Default 10,000: about 100 clients × 50 workloads × 2 outcomes, at some 2 KiB each.
	MaxSeries int
	// CEL compiles the expressions of configurations. nil: an environment of its own, which knows no node.
	CEL *cel.Env
	// Now is the clock for expiry. Default time.Now.
	Now func() time.Time
}

// envoyBounds are Envoy's default histogram bounds.
var envoyBounds = []float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000}

const shards = 64 // more than cores, so that requests rarely meet on one lock

// Mesh keeps Istio's standard metrics. All methods may be called from any goroutine.
type Mesh struct {
	opts     MeshOptions
	bounds   [metricCount][]float64
	overflow atomic.Uint64

	shards [shards]shard

	mu       sync.Mutex // guards the rest; always taken before a shard's lock, never while holding one
	byLabels map[string]*series
	policies map[string]*policy
	spill    [shapeCount]*series
	swept    time.Time
	keys     int
}

type shard struct {
	mu sync.RWMutex
	m  map[key]*series
	_  [32]byte // two locks do not share a cache line
}

// NewMesh returns empty metrics.
func NewMesh(o MeshOptions) *Mesh {
	if o.Idle <= 0 {
		o.Idle = 10 * time.Minute
	}
	if o.MaxSeries <= 0 {
		o.MaxSeries = 10_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CEL == nil {
		o.CEL = cel.NewEnv(nil)
	}
	if o.Version == "" {
		o.Version = unknown
	}
	m := &Mesh{opts: o, byLabels: map[string]*series{}, policies: map[string]*policy{}, swept: o.Now()}
	for i := range m.shards {
		m.shards[i].m = map[key]*series{}
	}
	for i, name := range metricNames {
		m.bounds[i] = envoyBounds
		longest := -1
		for prefix, b := range o.Buckets {
			if strings.HasPrefix(strings.TrimPrefix(name, "istio_"), strings.TrimPrefix(prefix, "istio_")) && len(prefix) > longest && len(b) > 0 {
				m.bounds[i], longest = b, len(prefix)
			}
		}
	}
	return m
}

// Chain reports for the filter chains that have one stats configuration.
type Chain struct {
	mesh     *Mesh
	policy   *policy
	interval time.Duration
}

// Chain compiles the configuration of the filter istio.stats. unhonoured names the fields whose effect is missing, for the
// field census; nil is none.
func (m *Mesh) Chain(c *stats.PluginConfig) (chain *Chain, unhonoured []string) {
	p, interval, unhonoured := compile(c, m.opts.CEL)
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.policies[p.id]; known != nil {
		p = known
	} else {
		m.policies[p.id] = p
	}
	return &Chain{mesh: m, policy: p, interval: interval}, unhonoured
}

// ReportingInterval is how often bytes of open TCP connections and messages of open gRPC streams are to be reported.
func (c *Chain) ReportingInterval() time.Duration { return c.interval }

// ObserveHTTP counts one finished HTTP or gRPC request.
func (c *Chain) ObserveHTTP(r *telemetry.Record) {
	d, done := r.Duration.Get()
	s := c.find(r, httpShape, int32(r.ResponseCode), r.GRPCStatus, r.Flags, d)
	s.counters[0].Add(1)
	if done {
		s.hist[0].observe(uint64(d.Milliseconds()))
	}
	s.hist[1].observe(r.WireBytesReceived)
	s.hist[2].observe(r.WireBytesSent)
}

// ObserveMessages adds gRPC messages since the last report of the same stream. It is called every ReportingInterval and at
// the end of a gRPC request.
func (c *Chain) ObserveMessages(r *telemetry.Record, requests, responses uint64) {
	s := c.find(r, messagesShape, 0, 0, 0, 0)
	s.touch(c.mesh.opts.Now().Unix())
	s.counters[0].Add(requests)
	s.counters[1].Add(responses)
}

// Connection is the metrics' side of one open TCP connection. It is used by one goroutine at a time.
type Connection struct {
	s              *series
	sent, received uint64
	now            func() time.Time
}

// OpenTCP counts an opened connection. As in Istio the labels are fixed at that moment, so it is called once both peers are
// known or the connection has ended, whichever is first.
func (c *Chain) OpenTCP(r *telemetry.Record) Connection {
	s := c.find(r, tcpShape, 0, 0, r.Flags, 0)
	s.open.Add(1)
	s.touch(c.mesh.opts.Now().Unix())
	s.counters[0].Add(1)
	return Connection{s: s, now: c.mesh.opts.Now}
}

// Report adds what has been transferred since the last report: the totals of the record's wire bytes are taken.
func (t *Connection) Report(r *telemetry.Record) {
	if t.s == nil {
		return
	}
	t.s.counters[2].Add(r.WireBytesSent - t.sent)
	t.s.counters[3].Add(r.WireBytesReceived - t.received)
	t.sent, t.received = r.WireBytesSent, r.WireBytesReceived
}

// Close reports the rest and counts the closed connection. A second Close does nothing.
func (t *Connection) Close(r *telemetry.Record) {
	if t.s == nil {
		return
	}
	t.Report(r)
	t.s.counters[1].Add(1)
	t.s.touch(t.now().Unix())
	t.s.open.Add(-1)
	t.s = nil
}

// find returns the series for a record. In steady state: one hash, one read lock, no allocation
// (save by expressions, if there are any).
func (c *Chain) find(r *telemetry.Record, sh shape, code int32, grpc telemetry.GRPCStatus, flags telemetry.Flags, d time.Duration) *series {
	k := key{
		policy: c.policy, source: r.Source, destination: r.Destination, service: r.Service, principal: r.PeerPrincipal,
		flags: flags, code: code, shape: sh, mtls: r.LocalPrincipal != "",
	}
	if sh == httpShape && r.GRPC {
		k.grpc, k.isGRPC = grpc, true
	}
	if r.Service == nil || c.policy.hostFallback || isSpecialCluster(r.UpstreamCluster) {
		_, k.named, _ = destinationService(r, c.policy.hostFallback)
	}
	if len(c.policy.expressions) > 0 {
		k.values = c.policy.expressions.evaluate(r)
	}
	now := r.Start.Unix() + int64(d/time.Second)
	sd := &c.mesh.shards[k.shard()]
	sd.mu.RLock()
	s := sd.m[k]
	if s != nil {
		s.touch(now) // under the lock: the sweeper decides under the write lock
	}
	sd.mu.RUnlock()
	if s == nil {
		s = c.mesh.create(k, r, now)
	}
	return s
}

// shard spreads keys by what differs most between requests that run at the same time.
func (k *key) shard() uint64 {
	h := uint64(uintptr(unsafe.Pointer(k.source))) ^ uint64(uintptr(unsafe.Pointer(k.destination)))<<1 ^
		uint64(uintptr(unsafe.Pointer(k.service)))<<2 ^ uint64(k.code)<<4 ^ uint64(k.flags)<<5
	return (h * 0x9e3779b97f4a7c15) >> 58 // Fibonacci hashing, the top six bits
}

// create makes the series of a key, or finds it by its labels when only the pointers in the key are new.
func (m *Mesh) create(k key, r *telemetry.Record, now int64) *series {
	m.mu.Lock()
	defer m.mu.Unlock()
	labels := peerLabels(r, k.policy.hostFallback)
	switch k.shape {
	case httpShape:
		labels = append(labels, httpLabels(r)...)
	case tcpShape:
		labels = append(labels, tcpLabels(r)...)
	}
	id := string('0'+rune(k.shape)) + k.policy.id + "\x00" + k.values + "\x00" + renderLabels(labels)
	s := m.byLabels[id]
	if s == nil {
		if wall := m.opts.Now(); len(m.byLabels) >= m.opts.MaxSeries && wall.Sub(m.swept) >= sweepEvery/6 {
			m.sweepLocked(wall) // not at each miss: it looks at everything
		}
		if len(m.byLabels) >= m.opts.MaxSeries {
			s = m.spillLocked(k)
		} else {
			s = m.newSeries(k.shape, k.policy, labels, k.values)
			m.byLabels[id] = s
		}
	}
	s.touch(max(now, m.opts.Now().Unix()))
	if m.keys >= 4*m.opts.MaxSeries {
		// Peers are replaced faster than keys expire. Forget all keys: the series stay and are found by their labels.
		m.eachShard(func(sh *shard) { clear(sh.m) })
		m.keys = 0
	}
	sd := &m.shards[k.shard()]
	sd.mu.Lock()
	if _, there := sd.m[k]; !there {
		m.keys++
	}
	sd.m[k] = s
	sd.mu.Unlock()
	return s
}

func (m *Mesh) newSeries(sh shape, p *policy, labels []labelAssignment, values string) *series {
	s := &series{shape: sh, idle: int64(m.opts.Idle / time.Second)}
	if p.idle > 0 {
		s.idle = int64(p.idle / time.Second)
	}
	plain, split := "", splitValues(values)
	for i, metric := range shapeMetrics[sh] {
		rules := p.metrics[metric]
		switch {
		case dropped(rules, split):
			s.dropped[i] = true
		case len(rules) == 0:
			if plain == "" {
				plain = renderLabels(labels)
			}
			s.labels[i] = plain
		default:
			s.labels[i] = relabel(rules, labels, split)
		}
	}
	if sh == httpShape {
		for i := range s.hist {
			s.hist[i] = newHistogram(m.bounds[requestDuration+i])
		}
	}
	return s
}

// spillLocked is the series of what does not fit: no peer labels, but nothing is lost from the totals.
func (m *Mesh) spillLocked(k key) *series {
	m.overflow.Add(1)
	s := m.spill[k.shape]
	if s == nil {
		blank := &telemetry.Record{GRPC: k.isGRPC}
		labels := peerLabels(blank, false)
		switch k.shape {
		case httpShape:
			labels = append(labels, httpLabels(blank)...)
		case tcpShape:
			labels = append(labels, tcpLabels(blank)...)
		}
		s = m.newSeries(k.shape, &policy{}, labels, "")
		m.spill[k.shape] = s
	}
	return s
}

func (m *Mesh) eachShard(f func(*shard)) {
	for i := range m.shards {
		m.shards[i].mu.Lock()
		f(&m.shards[i])
		m.shards[i].mu.Unlock()
	}
}

// sweepEvery is how often a scrape removes idle series: often enough for the idle time to be kept to a tenth.
const sweepEvery = time.Minute

func (m *Mesh) sweep(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.swept) >= sweepEvery {
		m.sweepLocked(now)
	}
}

// sweepLocked removes what is idle. No count is lost: a request that finds a series through a key marks it used under that
// shard's lock, so either its key is still there when the sweep comes by and the mark keeps the series, or the key is gone
// and the request comes to create, which waits for the sweep.
func (m *Mesh) sweepLocked(now time.Time) {
	m.swept = now
	unix := now.Unix()
	m.eachShard(func(sh *shard) {
		for k, s := range sh.m {
			if s.expired(unix) || s == m.spill[s.shape] { // what spilled may have room now
				delete(sh.m, k)
				m.keys--
			}
		}
	})
	for id, s := range m.byLabels {
		if s.expired(unix) {
			delete(m.byLabels, id)
		}
	}
}
