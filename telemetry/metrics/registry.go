package metrics

import (
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
)

// AgentPrefix is what pilot-agent puts before the name of each of its metrics; go_* and process_* get it too.
const AgentPrefix = "istio_agent_"

// Registry is all metrics of the process. The fields may be used from any goroutine.
type Registry struct {
	// Mesh are Istio's standard metrics.
	Mesh *Mesh
	// Stats are the counters with Envoy's names.
	Stats *Stats
	// Proxy takes collectors of the proxy's own metrics, under their own names. They show on 15090 and 15020.
	Proxy prometheus.Registerer
	// Agent takes collectors of the agent's metrics; the name that is registered gets the prefix istio_agent_. They show on
	// 15020 only.
	Agent prometheus.Registerer

	proxy, agent *prometheus.Registry
	failures     *prometheus.CounterVec
	scrapes      prometheus.Counter
	log          *slog.Logger
}

// NewRegistry returns a registry that already has the agent's process and Go metrics. log may be nil.
func NewRegistry(o MeshOptions, log *slog.Logger) *Registry {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Registry{
		Mesh: NewMesh(o), Stats: NewStats(),
		proxy: prometheus.NewRegistry(), agent: prometheus.NewRegistry(), log: log,
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "scrape_failures_total", Help: "Failed scrapes, by what was scraped."}, []string{"type"}),
		scrapes:  prometheus.NewCounter(prometheus.CounterOpts{Name: "scrapes_total", Help: "Scrapes of the merged metrics."}),
	}
	r.Proxy, r.Agent = r.proxy, prometheus.WrapRegistererWithPrefix(AgentPrefix, r.agent)
	r.Agent.MustRegister(r.failures, r.scrapes,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// WriteProxy writes what the proxy measures: Istio's metrics, Envoy's stats, and the collectors of Proxy.
func (r *Registry) WriteProxy(w io.Writer) error {
	if err := r.Mesh.WritePrometheus(w); err != nil {
		return err
	}
	if err := r.Stats.WritePrometheus(w); err != nil {
		return err
	}
	return write(w, r.proxy)
}

// WriteAgent writes what the agent measures, with the prefix.
func (r *Registry) WriteAgent(w io.Writer) error { return write(w, r.agent) }

func write(w io.Writer, g prometheus.Gatherer) error {
	families, err := g.Gather() // on an error what could be gathered is there: write that, then tell
	for _, f := range families {
		if _, werr := expfmt.MetricFamilyToText(w, f); werr != nil {
			return werr
		}
	}
	return err
}

// ProxyHandler answers /stats/prometheus on 15090.
func (r *Registry) ProxyHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		respond(w, req, func(out io.Writer) { r.part(out, "envoy", r.WriteProxy) })
	})
}

// MergedHandler answers /stats/prometheus and /metrics on 15020: first the agent's metrics, then the proxy's. The status is
// 200 whatever fails; failures are counted in istio_agent_scrape_failures_total.
func (r *Registry) MergedHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.scrapes.Inc()
		respond(w, req, func(out io.Writer) {
			r.part(out, "agent", r.WriteAgent)
			r.part(out, "envoy", r.WriteProxy)
		})
	})
}

func (r *Registry) part(w io.Writer, name string, f func(io.Writer) error) {
	if err := f(w); err != nil {
		r.failures.WithLabelValues(name).Inc()
		r.log.Warn("metrics scrape failed", "type", name, "error", err)
	}
}

var gzips = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}

// respond writes the text format, compressed if the scraper accepts gzip: metrics shrink to a twentieth.
func respond(w http.ResponseWriter, req *http.Request, body func(io.Writer)) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	if !acceptsGzip(req.Header.Get("Accept-Encoding")) {
		body(w)
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	z := gzips.Get().(*gzip.Writer)
	z.Reset(w)
	body(z)
	_ = z.Close() // fails only if the scraper has gone
	gzips.Put(z)
}

func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) == "gzip" && strings.ReplaceAll(params, " ", "") != "q=0" {
			return true
		}
	}
	return false
}
