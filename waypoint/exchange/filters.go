package exchange

import (
	"fmt"
	"strconv"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/message"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// filters runs the chain's filters over the request's head; false: one of them has answered.
func (e *exchange) filters() bool {
	if err := e.chain.Refused; err != nil {
		e.refuse(fmt.Errorf("filter chain %q: %w", e.chain.Name, err))
		return false
	}
	for i, f := range e.http.Filters {
		e.ran = i + 1
		if b, ok := f.(filter.Body); ok {
			e.bodies = append(e.bodies, b)
		}
		if f.Request(&e.x) == filter.Stop {
			e.reply(e.x.TakeReply())
			return false
		}
	}
	return true
}

// responseFilters runs the filters over a response's head, in reverse.
func (e *exchange) responseFilters(head *message.Head) {
	e.x.Response = head
	for i := e.ran - 1; i >= 0; i-- {
		if r, ok := e.http.Filters[i].(filter.Responder); ok {
			r.Response(&e.x)
		}
	}
}

func (e *exchange) perRoute(name string) any {
	r := e.match()
	if r == nil {
		return nil
	}
	return r.FilterConfig(name, e.choice)
}

func (e *exchange) clearRoute() { e.route, e.routed, e.choice = nil, false, nil }

// metadata is what %METADATA(…)% and %DYNAMIC_METADATA(…)% see of an exchange.
type metadata exchange

func (m *metadata) Lookup(source telemetry.MetadataSource, namespace string, path []string) *structpb.Value {
	var from *corev3.Metadata
	switch source {
	case telemetry.MetadataRequest:
		return m.x.Metadata.Get(namespace, path...)
	case telemetry.MetadataRoute:
		if m.route != nil {
			from = m.route.Metadata
		}
	case telemetry.MetadataVirtualHost:
		if m.route != nil && m.route.Host != nil {
			from = m.route.Host.Metadata
		}
	case telemetry.MetadataCluster:
		if m.cluster != nil {
			from = m.cluster.Config().Metadata
		}
	case telemetry.MetadataUpstreamHost:
		if m.lease.Host != nil {
			from = m.lease.Host.Endpoint().Metadata
		}
	}
	s := from.GetFilterMetadata()[namespace]
	if s == nil {
		return nil
	}
	return filter.Walk(s, path)
}

// Namespaces implements telemetry.MetadataNamespaces.
func (m *metadata) Namespaces(yield func(string, *structpb.Struct) bool) {
	m.x.Metadata.Namespaces(yield)
}

// joined is a head as access logs see it: several lines of one name are one value, as in Envoy's.
type joined message.Head

func (j *joined) Get(name string) (string, bool) {
	h := (*message.Head)(j)
	v, ok := h.Nth(name, 0)
	if !ok {
		return "", false
	}
	for i := 1; ; i++ {
		more, ok := h.Nth(name, i)
		if !ok {
			return v, true
		}
		v += "," + more
	}
}

// Lines implements telemetry.HeaderLines: pseudo-headers first.
func (j *joined) Lines(yield func(name, value string) bool) {
	pseudo := [...][2]string{{":authority", j.Authority}, {":path", j.Path}, {":method", j.Method}, {":scheme", j.Scheme}, {":status", ""}}
	if j.Status != 0 {
		pseudo[4][1] = strconv.Itoa(j.Status)
	}
	for _, p := range pseudo {
		if p[1] != "" && !yield(p[0], p[1]) {
			return
		}
	}
	j.Fields.Lines(yield)
}

// state is what %FILTER_STATE(…)% sees of an exchange.
type state exchange

func (s *state) Plain(key string) (string, bool)     { return s.x.FilterState(key) }
func (s *state) Field(string, string) (string, bool) { return "", false }
