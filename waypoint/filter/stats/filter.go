// Package stats reports requests and TCP sessions to Istio's standard metrics.
//
// What it does: hands the finished Record of each request, and the Record so far of each session, to telemetry/metrics. gRPC
// messages of a request that lasts are reported meanwhile, at most once per interval and when an answer's bytes pass; what has
// moved in one direction only shows at the end.
//
// Configured by: stats.PluginConfig (istio.stats), as telemetry/metrics honours it. Refuses: nothing. Notes: the fields that
// metrics does not honour, by name.
//
// Writes: istio_requests_total and the other metrics of package metrics.
package stats

import (
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	statsv1 "istio.io/api/envoy/extensions/stats"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/metrics"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
)

// HTTP returns the compiler of the HTTP filter, which reports to mesh.
func HTTP(mesh *metrics.Mesh) filter.Compiler[filter.HTTP] {
	return filter.Compiler[filter.HTTP]{
		New: func(name string, config proto.Message) (filter.HTTP, error) {
			chain, notes, err := compile(mesh, config)
			if err != nil {
				return nil, err
			}
			return &httpFilter{name: name, chain: chain, notes: notes, now: time.Now}, nil
		},
	}
}

// Network returns the compiler of the network filter, which reports to mesh.
func Network(mesh *metrics.Mesh) filter.Compiler[filter.Network] {
	return filter.Compiler[filter.Network]{
		New: func(name string, config proto.Message) (filter.Network, error) {
			chain, notes, err := compile(mesh, config)
			if err != nil {
				return nil, err
			}
			return &networkFilter{name: name, chain: chain, notes: notes, sessions: map[sessionKey]*session{}}, nil
		},
	}
}

func compile(mesh *metrics.Mesh, config proto.Message) (*metrics.Chain, []string, error) {
	c, ok := config.(*statsv1.PluginConfig)
	if !ok {
		return nil, nil, fmt.Errorf("configuration is a %T, not a stats.PluginConfig", config)
	}
	chain, notes := mesh.Chain(c)
	return chain, notes, nil
}

type httpFilter struct {
	name  string
	chain *metrics.Chain
	notes []string
	now   func() time.Time
}

// progress is how much of a gRPC request has been reported.
type progress struct {
	requests, responses uint64
	last                time.Time
}

var progresses = sync.Pool{New: func() any { return &progress{} }}

func (f *httpFilter) Name() string    { return f.name }
func (f *httpFilter) Notes() []string { return f.notes }

// Request begins to watch a gRPC request.
func (f *httpFilter) Request(x *filter.Exchange) filter.Action {
	if x.Record.GRPC && x.Messages != nil {
		p := progresses.Get().(*progress)
		*p = progress{last: x.Record.Start}
		x.SetLocal(f, p)
	}
	return filter.Continue
}

// RequestData does nothing: it runs beside the request's own goroutine, to which the Record belongs.
func (f *httpFilter) RequestData(*filter.Exchange, []byte) {}

// ResponseData reports messages so far when the interval is over.
func (f *httpFilter) ResponseData(x *filter.Exchange, _ []byte) {
	p, ok := x.Local(f).(*progress)
	if !ok || x.Messages == nil {
		return
	}
	now := f.now()
	if now.Sub(p.last) < f.chain.ReportingInterval() {
		return
	}
	p.last = now
	f.report(x, p, x.Messages.Requests.Load(), x.Messages.Responses.Load())
}

// report adds what is new.
func (f *httpFilter) report(x *filter.Exchange, p *progress, requests, responses uint64) {
	if requests > p.requests || responses > p.responses {
		f.chain.ObserveMessages(x.Record, requests-p.requests, responses-p.responses)
		p.requests, p.responses = requests, responses
	}
}

// Finish reports the request.
func (f *httpFilter) Finish(x *filter.Exchange) {
	f.chain.ObserveHTTP(x.Record)
	p, ok := x.Local(f).(*progress)
	if !ok {
		return
	}
	requests, responses := x.Record.RequestMessages, x.Record.ResponseMessages
	if x.Messages != nil { // the filter that counts comes later in the chain
		requests, responses = x.Messages.Requests.Load(), x.Messages.Responses.Load()
	}
	f.report(x, p, requests, responses)
	x.SetLocal(f, nil)
	progresses.Put(p)
}

type networkFilter struct {
	name  string
	chain *metrics.Chain
	notes []string

	mu       sync.Mutex
	sessions map[sessionKey]*session
}

// sessionKey is what stays the same in all reports of a session.
type sessionKey struct {
	connection uint64
	start      time.Time
}

// session is an open session. Reports about one come one after the other.
type session struct {
	metrics.Connection
	last time.Duration // of the last report, since the session began
}

func (f *networkFilter) Name() string    { return f.name }
func (f *networkFilter) Notes() []string { return f.notes }

// Connect lets everybody pass.
func (f *networkFilter) Connect(*filter.Conn) *filter.Denial { return nil }

// Report counts a session. One that is first heard of when it goes on, or at its end, is counted as opened then.
func (f *networkFilter) Report(r *telemetry.Record, phase filter.Phase) {
	k := sessionKey{r.ConnectionID, r.Start}
	f.mu.Lock()
	s := f.sessions[k]
	f.mu.Unlock()
	if s == nil {
		s = &session{Connection: f.chain.OpenTCP(r)}
		if phase != filter.Closed {
			f.mu.Lock()
			f.sessions[k] = s
			f.mu.Unlock()
		}
	}
	switch phase {
	case filter.Ongoing:
		// The caller's clock ticks unevenly: a tick that is a little early is not left out.
		interval := f.chain.ReportingInterval()
		if d, _ := r.Duration.Get(); d-s.last >= interval-interval/10 {
			s.last = d
			s.Connection.Report(r)
		}
	case filter.Closed:
		s.Connection.Close(r)
		f.mu.Lock()
		delete(f.sessions, k)
		f.mu.Unlock()
	}
}
