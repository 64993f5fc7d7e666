package config

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/telemetry/tracing"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
	"github.com/gowaypoint/gowaypoint/waypoint/route"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// Options are the parts that compile what this package does not know.
type Options struct {
	// Filters compiles HTTP and network filters. What is neither in it nor known to be inert refuses its chain.
	Filters filter.Registry
	// Routes compiles a route configuration with the options that the chain gives it; see route.Compile. notes go to the report.
	// nil: every chain with routes is refused.
	Routes func(*routev3.RouteConfiguration, route.Options) (cfg *route.Config, notes []string, err error)
	// AccessLog compiles loggers. notes go to the report; an error refuses the chain. nil: a chain with loggers gets none and
	// the report says so.
	AccessLog func([]*accesslogv3.AccessLog) (logs []filter.AccessLog, notes []string, err error)
	// Tracer compiles tracing and request_id_extension of a manager that has tracing; nil: nothing is traced. An error is
	// reported and the chain serves untraced.
	Tracer func(*hcmv3.HttpConnectionManager) (t *tracing.Tracer, notes []string, err error)
}

func (o *Options) accessLogs(logs []*accesslogv3.AccessLog) ([]filter.AccessLog, []string, error) {
	if len(logs) == 0 {
		return nil, nil, nil
	}
	if o.AccessLog == nil {
		return nil, []string{"access_log: this program was built without access logs"}, nil
	}
	return o.AccessLog(logs)
}

// A Compiler turns resources into Programs and remembers the parts, so that the next one costs what has changed. It is for one
// goroutine; the Programs are for all.
type Compiler struct {
	opt    Options
	fields *census

	listeners map[string]*listenerState
	clusters  map[string]*clusterState
	byEDS     map[string]map[string]bool // clusters by the assignment that they use
	targets   map[string]target
	internal  map[string]bool // clusters that lead to a listener that dispatches
	circles   []string        // clusters refused by breakCircles
	program   *program.Program
	ledger    *ledger
}

// clusterState is a compiled cluster, kept for the next Compile.
type clusterState struct {
	raw    []byte
	base   *clusterBase
	cla    []byte // raw bytes of its assignment
	hasCLA bool
	used   []use // internal listeners that its endpoints lead to
	out    *program.Cluster
	// claFindings is the census of the assignment.
	claFindings *tally
}

// use is an internal listener and what it was.
type use struct {
	listener string
	target   target
}

// New returns a compiler without a past.
func New(o Options) *Compiler {
	return &Compiler{
		opt: o, fields: newCensus(), ledger: newLedger(), program: &program.Program{},
		listeners: map[string]*listenerState{}, clusters: map[string]*clusterState{}, byEDS: map[string]map[string]bool{},
		internal: map[string]bool{},
	}
}

// Changes names resources that have come, changed or gone, by type URL.
type Changes map[string][]string

// Compile makes the Program of the resources. It does not fail: what cannot be compiled is refused where it stands.
// It finds out by itself what has changed; [Compiler.CompileChanged] need not look.
func (c *Compiler) Compile(res Resources) (*program.Program, *Report) {
	return c.CompileChanged(res, nil)
}

// CompileChanged is [Compiler.Compile] for a caller who knows what may have changed since the last time; what is not in changed
// must be as it was. nil: anything may have.
func (c *Compiler) CompileChanged(res Resources, changed Changes) (*program.Program, *Report) {
	if changed == nil || len(changed[TypeListener])+len(changed[TypeExtension])+len(changed[TypeRoute]) > 0 {
		c.compileListeners(&res)
	}
	g := &graph{c: c, res: &res, targets: map[string]target{}}
	for _, name := range slices.Sorted(maps.Keys(c.listeners)) {
		ls := c.listeners[name]
		switch {
		case ls.dispatch != nil:
			g.targets[name] = target{dispatch: ls.dispatch}
		case ls.template != nil:
			g.follow(name, nil)
		}
	}
	p := &program.Program{Version: c.program.Version + 1, Clusters: c.program.Clusters}
	switch {
	case changed == nil || !maps.Equal(g.targets, c.targets) || len(c.circles) > 0:
		c.allClusters(g, p)
	default:
		c.someClusters(g, p, changed)
	}
	c.targets = g.targets
	g.breakCircles(p)
	p.Dispatches = map[string]*program.Dispatch{}
	for _, name := range slices.Sorted(maps.Keys(c.listeners)) {
		ls := c.listeners[name]
		c.ledger.put("listener "+name, ls.account(name))
		if ls.socket != nil {
			p.Listeners = append(p.Listeners, ls.socket)
		}
		if ls.dispatch != nil {
			p.Dispatches[name] = ls.dispatch
		}
	}
	c.program = p
	return p, c.ledger.report(g.within())
}

func (c *Compiler) allClusters(g *graph, p *program.Program) {
	p.Clusters = make(map[string]*program.Cluster, len(g.res.Clusters))
	for name, r := range g.res.Clusters {
		p.Clusters[name] = g.cluster(name, r)
	}
	for name := range c.clusters {
		if _, ok := g.res.Clusters[name]; !ok {
			c.forget(name)
		}
	}
}

// someClusters rebuilds the clusters that changed names, themselves or by their endpoints.
func (c *Compiler) someClusters(g *graph, p *program.Program, changed Changes) {
	dirty := map[string]bool{}
	for _, name := range changed[TypeCluster] {
		dirty[name] = true
	}
	for _, name := range changed[TypeEndpoint] {
		maps.Copy(dirty, c.byEDS[name])
	}
	if len(dirty) == 0 {
		return
	}
	p.Clusters = maps.Clone(p.Clusters)
	if p.Clusters == nil {
		p.Clusters = map[string]*program.Cluster{}
	}
	for name := range dirty {
		r, ok := g.res.Clusters[name]
		if !ok {
			c.forget(name)
			delete(p.Clusters, name)
			continue
		}
		p.Clusters[name] = g.cluster(name, r)
	}
}

func (c *Compiler) forget(name string) {
	st := c.clusters[name]
	if st == nil {
		return
	}
	c.unlinkEDS(name, st.base)
	delete(c.clusters, name)
	delete(c.internal, name)
	c.ledger.put("cluster "+name, nil)
	c.ledger.put(endpointsOf(name), nil)
}

func (c *Compiler) unlinkEDS(name string, b *clusterBase) {
	if b == nil || b.edsName == "" {
		return
	}
	delete(c.byEDS[b.edsName], name)
	if len(c.byEDS[b.edsName]) == 0 {
		delete(c.byEDS, b.edsName)
	}
}

func (c *Compiler) linkEDS(name string, b *clusterBase) {
	if b.edsName == "" {
		return
	}
	if c.byEDS[b.edsName] == nil {
		c.byEDS[b.edsName] = map[string]bool{}
	}
	c.byEDS[b.edsName][name] = true
}

// rawOf returns the bytes that identify a resource.
func rawOf(r Resource) []byte {
	if r.Raw == nil && r.Message != nil {
		// Only a caller without wire bytes comes here (tests, offline commands). A message that does not marshal has no bytes,
		// and is then refused for having none.
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.Message)
		if err == nil {
			return b
		}
	}
	return r.Raw
}

func (c *Compiler) compileListeners(res *Resources) {
	for name := range c.listeners {
		if _, ok := res.Listeners[name]; !ok {
			delete(c.listeners, name)
			c.ledger.put("listener "+name, nil)
		}
	}
	for name, r := range res.Listeners {
		raw := rawOf(r)
		old := c.listeners[name]
		if old != nil && same(old.raw, raw) && old.current(res) {
			continue
		}
		c.listeners[name] = c.compileListener(name, raw, old, res)
	}
}

// current tells whether what the chains were compiled with, apart from the listener, is unchanged.
func (l *listenerState) current(res *Resources) bool {
	for _, ch := range l.chains {
		if !ch.current(res) {
			return false
		}
	}
	return true
}

func (s *chainState) current(res *Resources) bool {
	for _, d := range s.deps {
		r, ok := res.Of(d.typeURL, false)[d.name]
		if ok != d.there || !same(rawOf(r), d.raw) {
			return false
		}
	}
	return true
}

// compileListener compiles a listener, taking over the chains of its predecessor that have not changed.
func (c *Compiler) compileListener(name string, raw []byte, old *listenerState, res *Resources) *listenerState {
	ls := &listenerState{raw: raw}
	l, chains, err := splitListener(raw)
	if err != nil {
		ls.fail(name, err)
		return ls
	}
	d := newDecoder()
	if len(chains) == 1 {
		fc, err := decodeChain(chains[0])
		if err == nil && isPath(l, fc, d) {
			ls.template = d.compilePath(l, fc)
			ls.findings = c.fields.take(d, l, fc)
			if err := ls.findings.refused(); err != nil && ls.template.err == nil {
				ls.template.err = fmt.Errorf("listener %q: %w", name, err)
			}
			return ls
		}
	}
	before := map[string]*chainState{}
	if old != nil {
		for _, ch := range old.chains {
			before[ch.name] = ch
		}
	}
	for _, b := range chains {
		ls.chains = append(ls.chains, c.chain(b, before, res))
	}
	if def := l.GetDefaultFilterChain(); def != nil {
		ch := compileChain(&c.opt, res, c.fields, def)
		ch.isDefault = true
		ls.chains = append(ls.chains, ch)
		l.DefaultFilterChain = nil // counted with the chains
	}
	ls.findings = c.fields.take(d, l)
	refused := ls.findings.refused()
	logs, notes, err := c.opt.accessLogs(l.GetAccessLog())
	if err != nil {
		notes = append(notes, "access_log: "+err.Error())
	}
	ls.notes = notes
	if l.GetInternalListener() != nil {
		ls.dispatch, notes = d.dispatchListener(l, ls.chains)
		ls.notes = append(ls.notes, notes...)
		ls.dispatch.Logs = logs
		ls.dispatch.Refused = join(ls.dispatch.Refused, refused)
		return ls
	}
	ls.socket = d.socketListener(l, ls.chains)
	ls.socket.Logs = logs
	ls.socket.Refused = join(ls.socket.Refused, refused)
	for _, ch := range ls.chains {
		ls.secrets = append(ls.secrets, ch.secrets...)
	}
	return ls
}

// fail makes a listener that did not decode refuse in each of its possible places.
func (l *listenerState) fail(name string, err error) {
	l.socket = &program.Listener{Name: name, Refused: err}
	l.dispatch = &program.Dispatch{Name: name, Ranges: program.NewRanges(), Refused: err}
	l.findings = &tally{}
}

// chain compiles a serialised chain, or returns the one of before that it was made of already.
func (c *Compiler) chain(raw []byte, before map[string]*chainState, res *Resources) *chainState {
	name := chainName(raw)
	if old := before[name]; old != nil && same(old.raw, raw) && old.current(res) {
		kept := *old
		kept.raw = raw // of the new listener, so that the old one's bytes can go
		return &kept
	}
	fc, err := decodeChain(raw)
	if err != nil {
		return &chainState{name: name, raw: raw, out: refuseChain(name, err), findings: &tally{}}
	}
	ch := compileChain(&c.opt, res, c.fields, fc)
	ch.raw = raw
	return ch
}
