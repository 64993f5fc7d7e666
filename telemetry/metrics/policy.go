package metrics

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"istio.io/api/envoy/extensions/stats"

	"github.com/gowaypoint/gowaypoint/telemetry/cel"
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
	// metrics[i] is what to do to metric i, in the order of the configuration.
	metrics [metricCount][]rule
	// expressions are what has to be asked of each record.
	expressions expressions
	// altered is false when nothing differs from Istio's defaults.
	altered bool
	// hostFallback takes destination_service from the Host header if the control plane names no service.
	hostFallback bool
	idle         time.Duration // 0: the registry's
}

// rule is one MetricConfig, for one metric.
type rule struct {
	when   int // the condition, as an index of expressions; always: there is none
	drop   bool
	remove []string     // labels to leave out
	set    []assignment // labels to set, or to add
}

const always = -1

// assignment gives a label a constant, or the value of an expression.
type assignment struct {
	name, value string
	expression  int // an index of expressions; constant: value is it
}

const constant = -1

type labelAssignment struct{ name, value string }

// compile reads a PluginConfig. It returns the fields that are not honoured, by name, for the field census.
func compile(c *stats.PluginConfig, env *cel.Env) (p *policy, interval time.Duration, unhonoured []string) {
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
		compileMetric(p, m, env, report)
	}
	p.id = fmt.Sprintf("%v %q %v %v", p.metrics, p.expressions.sources(), p.hostFallback, p.idle)
	return p, interval, unhonoured
}

func compileMetric(p *policy, m *stats.MetricConfig, env *cel.Env, report func(string, ...any)) {
	where := "metrics[" + m.GetName() + "]"
	first, last := 0, metricCount-1
	if name := m.GetName(); name != "" {
		i := slices.Index(metricNames[:], "istio_"+strings.TrimPrefix(name, "istio_"))
		if i < 0 {
			report("%s: no such metric", where)
			return
		}
		first, last = i, i
	}
	add := func(field, source string, condition bool) (int, bool) {
		i, unavailable, err := p.expressions.add(source, condition, env)
		if err != nil {
			report("%s.%s: %v", where, field, err)
			return 0, false
		}
		for _, name := range unavailable {
			report("%s.%s: the attribute %s is not known and is never there", where, field, name)
		}
		return i, true
	}
	r := rule{when: always, drop: m.GetDrop(), remove: m.GetTagsToRemove()}
	if m.GetMatch() != "" {
		// Istio's own proxy parses match and never evaluates it. Here it does what its documentation says: the override is for
		// the records for which it is true. If it makes no sense the override is left out, since without its condition it would
		// drop or relabel more than was asked for.
		i, ok := add("match", m.GetMatch(), true)
		if !ok {
			return
		}
		r.when = i
	}
	for _, name := range slices.Sorted(maps.Keys(m.GetDimensions())) {
		source := m.GetDimensions()[name]
		a := assignment{name: name, expression: constant}
		var ok bool
		if a.value, ok = celLiteral(source); !ok {
			if a.expression, ok = add("dimensions["+name+"]", source, false); !ok {
				a.value, a.expression = unknown, constant // what Istio shows for an expression that fails
			}
		}
		r.set = append(r.set, a)
	}
	for i := first; i <= last; i++ {
		p.metrics[i] = append(p.metrics[i], r)
	}
	p.altered = true
}

// celLiteral evaluates a CEL expression that is a plain string literal: most are, and they need no CEL.
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

// applies tells whether a rule is for a record of which the expressions have the given values.
func (r *rule) applies(values []string) bool {
	return r.when == always || r.when < len(values) && values[r.when] == holds
}

// dropped tells whether rules switch a metric off.
func dropped(rules []rule, values []string) bool {
	return slices.ContainsFunc(rules, func(r rule) bool { return r.drop && r.applies(values) })
}

// relabel applies the rules of one metric to its default labels, and renders them.
func relabel(rules []rule, labels []labelAssignment, values []string) string {
	var remove []string
	var set []labelAssignment
	for i := range rules {
		if !rules[i].applies(values) {
			continue
		}
		remove = append(remove, rules[i].remove...)
		for _, a := range rules[i].set {
			v := a.value
			if a.expression != constant && a.expression < len(values) {
				v = values[a.expression]
			}
			set = append(set, labelAssignment{a.name, v})
		}
	}
	out := make([]labelAssignment, 0, len(labels)+len(set))
	for _, l := range labels {
		if slices.Contains(remove, l.name) {
			continue
		}
		for _, s := range set {
			if s.name == l.name {
				l.value = s.value
			}
		}
		out = append(out, l)
	}
	for i, s := range set {
		same := func(l labelAssignment) bool { return l.name == s.name }
		if slices.ContainsFunc(labels, same) || slices.Contains(remove, s.name) || slices.ContainsFunc(set[i+1:], same) {
			continue // changed above, or the last one of several counts
		}
		out = append(out, s)
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
