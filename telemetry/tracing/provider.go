package tracing

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gowaypoint/gowaypoint/telemetry/format"
)

// Dialer opens a connection to a collector. The bytes on it are plain: what the cluster wants (TLS, HBONE) is the dialer's.
type Dialer func(ctx context.Context) (net.Conn, error)

// Options are what tracing takes from the process.
type Options struct {
	// Dial finds the way to a cluster by its name; an error refuses the configuration. Needed if a provider is configured.
	Dial func(cluster string) (Dialer, error)
	// ServiceName is the name under which Zipkin shows us: node.cluster, "<service account>.<namespace>".
	ServiceName string
	// NodeID and Zone are the tags node_id and zone; empty leaves them out.
	NodeID, Zone string
	// LocalAddress is our own address, for Zipkin's localEndpoint.
	LocalAddress netip.Addr
	// Format is what tag formats take from the process.
	Format format.Options
	// Queue bounds the spans that wait for one collector. Default 1024, Envoy's default for OpenTelemetry.
	Queue int
	// Log gets a line when a collector begins to fail. nil: silence.
	Log *slog.Logger
}

// Counts tell what became of the spans of all exporters, since the start.
type Counts struct {
	Sent    uint64 // taken by a collector
	Dropped uint64 // never sent: the queue was full
	Failed  uint64 // sent, and not taken
}

// Provider holds the exporters of a process. Its methods may be called from any goroutine.
type Provider struct {
	opts   Options
	counts counts

	mu        sync.Mutex
	exporters map[string]*sharedExporter
	closing   sync.WaitGroup // exporters that nobody uses any more, still sending
}

type counts struct{ sent, dropped, failed atomic.Uint64 }

// NewProvider returns a provider without exporters.
func NewProvider(o Options) *Provider {
	if o.Queue <= 0 {
		o.Queue = 1024
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Provider{opts: o, exporters: map[string]*sharedExporter{}}
}

// Counts are the counters for metrics.
func (p *Provider) Counts() Counts {
	return Counts{p.counts.sent.Load(), p.counts.dropped.Load(), p.counts.failed.Load()}
}

// exporter sends a batch to a collector. It is called by one goroutine at a time.
type exporter interface {
	export(ctx context.Context, batch []finished) error
	close(ctx context.Context)
}

// sharedExporter is an exporter with its queue, used by every tracer that has this configuration.
type sharedExporter struct {
	*queue
	key   string
	users int // guarded by Provider.mu
}

// acquire finds or makes the exporter of a configuration.
func (p *Provider) acquire(config *anypb.Any, start func() (exporter, error)) (*sharedExporter, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(config)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := string(b)
	e := p.exporters[key]
	if e == nil {
		out, err := start()
		if err != nil {
			return nil, err
		}
		e = &sharedExporter{queue: newQueue(out, p.opts.Queue, &p.counts, p.opts.Log), key: key}
		p.exporters[key] = e
	}
	e.users++
	return e, nil
}

func (p *Provider) release(e *sharedExporter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.users--; e.users > 0 {
		return
	}
	if p.exporters[e.key] == e {
		delete(p.exporters, e.key)
	}
	p.closing.Go(func() { e.stop(context.Background()) }) // sends the rest; each request has its own timeout
}

// Close sends what is queued, for as long as ctx allows, and stops all exporters. Spans that come later are dropped.
func (p *Provider) Close(ctx context.Context) {
	p.mu.Lock()
	all := p.exporters
	p.exporters = map[string]*sharedExporter{}
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, e := range all {
		wg.Go(func() { e.stop(ctx) })
	}
	wg.Wait()
	done := make(chan struct{})
	go func() { p.closing.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
