package metrics

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Stats are counters and gauges with Envoy's names. Their names are templates: what stands in braces is a tag.
//
//	s.Gauge("cluster.{cluster_name}.upstream_cx_active", "xds-grpc")
//
// shows as "cluster.xds-grpc.upstream_cx_active: 1" in text and as envoy_cluster_upstream_cx_active{cluster_name="xds-grpc"}
// in Prometheus. Envoy finds tags in finished names by regular expressions, and gets them wrong when a name has dots; here
// the place of a tag is known.
//
// All methods may be called from any goroutine. Asking again for the same name and values gives the same stat. A template
// with the wrong number of values, or asked for as two kinds, is a programming error and panics.
type Stats struct {
	mu    sync.RWMutex
	byKey map[string]*stat
}

// NewStats returns an empty registry.
func NewStats() *Stats { return &Stats{byKey: map[string]*stat{}} }

// Counter only goes up.
type Counter struct{ v atomic.Uint64 }

// Add adds n.
func (c *Counter) Add(n uint64) { c.v.Add(n) }

// Inc adds one.
func (c *Counter) Inc() { c.v.Add(1) }

// Value is the count.
func (c *Counter) Value() uint64 { return c.v.Load() }

// Gauge goes up and down, never below zero in what is shown.
type Gauge struct{ v atomic.Int64 }

// Set sets the value.
func (g *Gauge) Set(n uint64) { g.v.Store(int64(n)) }

// Add adds n, which may be negative.
func (g *Gauge) Add(n int64) { g.v.Add(n) }

// Value is the value as it is shown.
func (g *Gauge) Value() uint64 { return uint64(max(g.v.Load(), 0)) }

type stat struct {
	name   string // as text: cluster.xds-grpc.upstream_cx_active
	prom   string // as Prometheus family: envoy_cluster_upstream_cx_active
	labels string // rendered
	tags   []labelAssignment
	count  *Counter
	gauge  *Gauge
	fn     atomic.Pointer[func() uint64]
}

func (s *stat) value() uint64 {
	switch {
	case s.count != nil:
		return s.count.Value()
	case s.gauge != nil:
		return s.gauge.Value()
	}
	return (*s.fn.Load())()
}

// Counter returns the counter of that name, made at the first call.
func (s *Stats) Counter(template string, values ...string) *Counter {
	c := s.get(template, values, func(st *stat) { st.count = &Counter{} }).count
	if c == nil {
		panic(fmt.Sprintf("metrics: stat %q is not a counter", template))
	}
	return c
}

// Gauge returns the gauge of that name, made at the first call.
func (s *Stats) Gauge(template string, values ...string) *Gauge {
	g := s.get(template, values, func(st *stat) { st.gauge = &Gauge{} }).gauge
	if g == nil {
		panic(fmt.Sprintf("metrics: stat %q is not a gauge", template))
	}
	return g
}

// GaugeFunc is a gauge whose value is asked for when it is shown. f must be safe to call from any goroutine. A second
// function for the same name replaces the first.
func (s *Stats) GaugeFunc(f func() uint64, template string, values ...string) {
	st := s.get(template, values, func(st *stat) { st.fn.Store(&f) })
	if st.fn.Swap(&f) == nil {
		panic(fmt.Sprintf("metrics: stat %q is not a function", template))
	}
}

// Remove forgets all stats that have the tag with that value: those of a cluster that is gone. Who still holds one may go
// on using it; it is just no longer shown.
func (s *Stats) Remove(tag, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, st := range s.byKey {
		if slices.Contains(st.tags, labelAssignment{tag, value}) {
			delete(s.byKey, k)
		}
	}
}

func (s *Stats) get(template string, values []string, fill func(*stat)) *stat {
	k := template + "\x00" + strings.Join(values, "\x00")
	s.mu.RLock()
	st := s.byKey[k]
	s.mu.RUnlock()
	if st != nil {
		return st
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st = s.byKey[k]; st == nil {
		st = newStat(template, values)
		fill(st)
		s.byKey[k] = st
	}
	return st
}

// newStat expands a template.
func newStat(template string, values []string) *stat {
	st := &stat{}
	var name, family strings.Builder
	rest, n := template, 0
	for {
		before, after, ok := strings.Cut(rest, "{")
		name.WriteString(before)
		family.WriteString(before)
		if !ok {
			break
		}
		tag, tail, closed := strings.Cut(after, "}")
		if !closed || n >= len(values) {
			panic(fmt.Sprintf("metrics: stat %q with %d values", template, len(values)))
		}
		st.tags = append(st.tags, labelAssignment{tag, values[n]})
		name.WriteString(strings.ReplaceAll(values[n], ":", "_")) // as Envoy: a colon ends the name in text
		n++
		rest = strings.TrimPrefix(tail, ".") // in Prometheus the tag's segment is gone
		if rest != tail {
			name.WriteByte('.')
		}
	}
	if n != len(values) {
		panic(fmt.Sprintf("metrics: stat %q with %d values", template, len(values)))
	}
	st.name = name.String()
	st.prom = "envoy_" + strings.TrimSuffix(promName(family.String()), "_")
	st.labels = renderLabels(st.tags)
	return st
}

// promName makes a name that Prometheus allows.
func promName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, s)
}

// sorted are the stats that keep accepts (nil: all), by name.
func (s *Stats) sorted(keep func(name string) bool) []*stat {
	s.mu.RLock()
	all := make([]*stat, 0, len(s.byKey))
	for _, st := range s.byKey {
		if keep == nil || keep(st.name) {
			all = append(all, st)
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b *stat) int { return strings.Compare(a.name, b.name) })
	return all
}

// Lookup is the value of the stat with that text name, for readiness: "server.state".
func (s *Stats) Lookup(name string) (value uint64, ok bool) {
	for _, st := range s.sorted(func(n string) bool { return n == name }) {
		return st.value(), true
	}
	return 0, false
}

// WriteText writes "name: value" lines, sorted by name: what GET /stats answers. keep selects names; nil keeps all.
func (s *Stats) WriteText(w io.Writer, keep func(name string) bool) error {
	b := bufio.NewWriter(w)
	e := emitter{b: b}
	for _, st := range s.sorted(keep) {
		e.str(st.name, ": ")
		e.line(st.value())
	}
	return b.Flush()
}

// WriteJSON writes {"stats":[{"name":…,"value":…}]}: what GET /stats?format=json answers.
func (s *Stats) WriteJSON(w io.Writer, keep func(name string) bool) error {
	type one struct {
		Name  string `json:"name"`
		Value uint64 `json:"value"`
	}
	out := struct {
		Stats []one `json:"stats"`
	}{Stats: []one{}}
	for _, st := range s.sorted(keep) {
		out.Stats = append(out.Stats, one{st.name, st.value()})
	}
	return json.NewEncoder(w).Encode(out)
}

// WritePrometheus writes the text format, one family per "# TYPE" line.
func (s *Stats) WritePrometheus(w io.Writer) error {
	all := s.sorted(nil)
	slices.SortStableFunc(all, func(a, b *stat) int {
		if c := strings.Compare(a.prom, b.prom); c != 0 {
			return c
		}
		return strings.Compare(a.labels, b.labels)
	})
	b := bufio.NewWriter(w)
	e := emitter{b: b}
	last := ""
	for _, st := range all {
		if st.prom != last {
			kind := " gauge\n"
			if st.count != nil {
				kind = " counter\n"
			}
			e.str("# TYPE ", st.prom, kind)
			last = st.prom
		}
		e.str(st.prom, "{", st.labels, "} ")
		e.str(strconv.FormatUint(st.value(), 10), "\n")
	}
	return b.Flush()
}
