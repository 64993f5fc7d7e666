package metrics

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"istio.io/api/envoy/extensions/stats"
)

// The metrics of Istio, in the order in which they are rendered.
const (
	requestsTotal = iota
	requestDuration
	requestBytes
	responseBytes
	requestMessages
	responseMessages
	tcpOpened
	tcpClosed
	tcpSent
	tcpReceived
	metricCount
)

var metricNames = [metricCount]string{
	"istio_requests_total",
	"istio_request_duration_milliseconds",
	"istio_request_bytes",
	"istio_response_bytes",
	"istio_request_messages_total",
	"istio_response_messages_total",
	"istio_tcp_connections_opened_total",
	"istio_tcp_connections_closed_total",
	"istio_tcp_sent_bytes_total",
	"istio_tcp_received_bytes_total",
}

// defaultReportingInterval is how often TCP bytes and gRPC messages of open streams are reported, when
// PluginConfig.tcp_reporting_duration is not set: Istio's default, a third of the usual scrape interval.
const defaultReportingInterval = 5 * time.Second

// policy is the part of a PluginConfig that changes metrics. Equal policies are one policy: it is part of the series key.
type policy struct {
	id string // its canonical text, by which equal ones are found
	// metrics[i] is what to do to metric i.
	metrics [metricCount]metricPolicy
	// altered is false when nothing differs from Istio's defaults.
	altered bool
	// hostFallback takes destination_service from the Host header if the control plane names no service.
	hostFallback bool
	idle         time.Duration // 0: the registry's
}

type metricPolicy struct {
	drop   bool
	remove []string          // labels to leave out
	set    []labelAssignment // labels to set to a constant, or to add
}

type labelAssignment struct{ name, value string }

// compile reads a PluginConfig. It returns the fields that are not honoured, by name, for the field census.
func compile(c *stats.PluginConfig) (p *policy, interval time.Duration, unhonoured []string) {
	p = &policy{hostFallback: !c.GetDisableHostHeaderFallback()}
	report := func(f string, args ...any) { unhonoured = append(unhonoured, fmt.Sprintf(f, args...)) }

	interval = defaultReportingInterval
	if d := c.GetTcpReportingDuration().AsDuration(); d > 0 {
		interval = d
	}
	if d := c.GetRotationInterval().AsDuration(); d > 0 {
		// Envoy drops all series at each rotation and keeps the old ones for the graceful interval. We drop only those
		// that were idle for that long: no counter of a busy series jumps back to zero.
		graceful := c.GetGracefulDeletionInterval().AsDuration()
		if graceful <= 0 {
			graceful = 5 * time.Minute // Envoy's default
		}
		p.idle = d + graceful
	}
	if r := c.GetReporter(); r != stats.Reporter_SERVER_GATEWAY {
		report("reporter: %v (a waypoint reports as SERVER_GATEWAY, and that is what is done)", r)
	}
	for _, d := range c.GetDefinitions() {
		report("definitions[%s]: custom metrics", d.GetName())
	}
	if prefix := c.GetStatPrefix(); prefix != "" && prefix != "istio_" && prefix != "istio" {
		report("stat_prefix: %q (deprecated; metrics are called istio_*)", prefix)
	}
	for _, m := range c.GetMetrics() {
		compileMetric(p, m, report)
	}
	p.id = fmt.Sprintf("%v %v %v", p.metrics, p.hostFallback, p.idle)
	return p, interval, unhonoured
}

func compileMetric(p *policy, m *stats.MetricConfig, report func(string, ...any)) {
	where := "metrics[" + m.GetName() + "]"
	if m.GetMatch() != "" {
		// Envoy does not implement it either: the override is applied without the condition. Doing that would drop or
		// relabel more than was asked for, so the whole override is left out.
		report("%s.match: conditional overrides", where)
		return
	}
	first, last := 0, metricCount-1
	if name := m.GetName(); name != "" {
		i := slices.Index(metricNames[:], "istio_"+strings.TrimPrefix(name, "istio_"))
		if i < 0 {
			report("%s: no such metric", where)
			return
		}
		first, last = i, i
	}
	var set []labelAssignment
	for name, expr := range m.GetDimensions() {
		value, ok := celLiteral(expr)
		if !ok {
			report("%s.dimensions[%s]: the expression %q (only constants are evaluated); the label is %q", where, name, expr, unknown)
			value = unknown // what Istio shows for an expression that fails
		}
		set = append(set, labelAssignment{name, value})
	}
	slices.SortFunc(set, func(a, b labelAssignment) int { return strings.Compare(a.name, b.name) })
	for i := first; i <= last; i++ {
		mp := &p.metrics[i]
		mp.drop = mp.drop || m.GetDrop()
		mp.remove = append(mp.remove, m.GetTagsToRemove()...)
		mp.set = append(mp.set, set...)
	}
	p.altered = true
}

// celLiteral evaluates a CEL expression that is a plain string literal.
func celLiteral(expr string) (string, bool) {
	expr = strings.TrimSpace(expr)
	if len(expr) < 2 {
		return "", false
	}
	q := expr[0]
	body := expr[1 : len(expr)-1]
	if q != '"' && q != '\'' || expr[len(expr)-1] != q || strings.ContainsAny(body, string(q)+`\`) {
		return "", false
	}
	return body, true
}

// render applies the policy of one metric to its default labels, and renders them.
func (p *metricPolicy) render(labels []labelAssignment) string {
	out := make([]labelAssignment, 0, len(labels)+len(p.set))
	for _, l := range labels {
		if slices.Contains(p.remove, l.name) {
			continue
		}
		for _, s := range p.set {
			if s.name == l.name {
				l.value = s.value
			}
		}
		out = append(out, l)
	}
	for _, s := range p.set {
		if !slices.ContainsFunc(out, func(l labelAssignment) bool { return l.name == s.name }) && !slices.Contains(p.remove, s.name) {
			out = append(out, s)
		}
	}
	return renderLabels(out)
}

// renderLabels writes name="value" pairs, escaped as the text format wants, without the braces. Values that are not UTF-8
// would make Prometheus refuse the whole scrape.
func renderLabels(labels []labelAssignment) string {
	var b strings.Builder
	for i, l := range labels {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(l.name)
		b.WriteString(`="`)
		_, _ = labelEscaper.WriteString(&b, strings.ToValidUTF8(l.value, "\uFFFD")) // a strings.Builder does not fail
		b.WriteByte('"')
	}
	return b.String()
}

var labelEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
