package metrics

import (
	"bufio"
	"cmp"
	"io"
	"slices"
	"strconv"
)

// WritePrometheus writes the standard metrics in the text format: families with "# TYPE" and, as from Envoy, no "# HELP".
// Series appear in the order of their labels.
func (m *Mesh) WritePrometheus(w io.Writer) error {
	m.sweep(m.opts.Now())
	m.mu.Lock()
	all := make([]*series, 0, len(m.byLabels)+int(shapeCount))
	for _, s := range m.byLabels {
		all = append(all, s)
	}
	count := len(m.byLabels)
	for _, s := range m.spill {
		if s != nil {
			all = append(all, s)
		}
	}
	m.mu.Unlock()

	b := bufio.NewWriterSize(w, 64<<10) // one write per 64 KiB: a scrape may be many megabytes
	for metric, name := range metricNames {
		writeFamily(b, metric, name, all)
	}
	e := &emitter{b: b}
	e.str("# TYPE istio_build gauge\nistio_build{", renderLabels([]labelAssignment{{"component", "proxy"}, {"tag", m.opts.Version}}), "} 1\n")
	e.str("# TYPE waypoint_telemetry_series gauge\nwaypoint_telemetry_series ")
	e.line(uint64(count))
	e.str("# TYPE waypoint_telemetry_series_overflow_total counter\nwaypoint_telemetry_series_overflow_total ")
	e.line(m.overflow.Load())
	return b.Flush() // a bufio.Writer keeps the first error until here
}

func writeFamily(b *bufio.Writer, metric int, name string, all []*series) {
	var slot int
	var family []*series
	for sh, metrics := range shapeMetrics {
		if i := slices.Index(metrics, metric); i >= 0 {
			slot = i
			for _, s := range all {
				if s.shape == shape(sh) && !s.dropped[i] {
					family = append(family, s)
				}
			}
		}
	}
	if len(family) == 0 {
		return
	}
	slices.SortFunc(family, func(x, y *series) int { return cmp.Compare(x.labels[slot], y.labels[slot]) })
	e := &emitter{b: b}
	histograms := metric == requestDuration || metric == requestBytes || metric == responseBytes
	if histograms {
		e.str("# TYPE ", name, " histogram\n")
	} else {
		e.str("# TYPE ", name, " counter\n")
	}
	// Label removal can make two series one: their values are then added, as Envoy's would be.
	for i := 0; i < len(family); {
		j := i + 1
		for j < len(family) && family[j].labels[slot] == family[i].labels[slot] {
			j++
		}
		if histograms {
			e.histogram(name, family[i].labels[slot], slot-1, family[i:j])
		} else {
			var sum uint64
			for _, s := range family[i:j] {
				sum += s.counters[slot].Load()
			}
			e.str(name, "{", family[i].labels[slot], "} ")
			e.line(sum)
		}
		i = j
	}
}

// emitter writes without allocating per line. Errors stay in the bufio.Writer.
type emitter struct {
	b   *bufio.Writer
	num [32]byte
}

func (e *emitter) str(parts ...string) {
	for _, p := range parts {
		_, _ = e.b.WriteString(p) // the error is kept for Flush
	}
}

// line writes a value and ends the line.
func (e *emitter) line(v uint64) {
	_, _ = e.b.Write(strconv.AppendUint(e.num[:0], v, 10))
	_ = e.b.WriteByte('\n')
}

func (e *emitter) histogram(name, labels string, slot int, same []*series) {
	h := same[0].hist[slot]
	var cumulative, sum uint64
	for i := range h.counts {
		for _, s := range same {
			cumulative += s.hist[slot].counts[i].Load()
		}
		le := "+Inf"
		if i < len(h.bounds) {
			le = string(strconv.AppendFloat(e.num[:0], h.bounds[i], 'f', -1, 64))
		}
		comma := ","
		if labels == "" {
			comma = ""
		}
		e.str(name, "_bucket{", labels, comma, `le="`, le, `"} `)
		e.line(cumulative)
	}
	for _, s := range same {
		sum += s.hist[slot].sum.Load()
	}
	e.str(name, "_sum{", labels, "} ")
	e.line(sum)
	e.str(name, "_count{", labels, "} ")
	e.line(cumulative)
}
