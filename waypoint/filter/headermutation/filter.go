// Package headermutation adds, overwrites and removes headers.
//
// What it does: applies a list of mutations to the request's head on its way in, and another to the response's head on its way
// out, one after the other.
//
// Configured by: envoy.extensions.filters.http.header_mutation.v3.HeaderMutation (mutations: request_mutations,
// response_mutations; remove, append with append_action and keep_empty_value). istiod sends it as
// istio.waypoint.xfcc_client_identity, to name the client in x-forwarded-client-cert.
//
// Refuses: query_parameter_mutations, trailer mutations, remove_on_match, formatters, configuration at routes; names that begin
// with ":" and host, which policy and routes have been or will be decided by; and fields that frame the message or belong to
// the connection (content-length, transfer-encoding, connection, te, …), with which a backend may see two requests in one.
// Envoy allows all of these.
//
// Writes: headers. Where an overwriting mutation has no value to write, or one that cannot be sent, it removes the header: a
// backend that trusts the header would otherwise read the client's own. Envoy leaves that in place.
package headermutation

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/format"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/header"

	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
)

// HTTP returns the compiler.
func HTTP(o format.Options) filter.Compiler[filter.HTTP] {
	o.OmitEmpty = true // as in Envoy
	o.Report = nil     // an identity that is silently empty is worse than a chain that is refused
	return filter.Compiler[filter.HTTP]{
		New: func(name string, config proto.Message) (filter.HTTP, error) {
			c, ok := config.(*mutationv3.HeaderMutation)
			if !ok {
				return nil, fmt.Errorf("configuration is a %T, not a HeaderMutation", config)
			}
			m := c.GetMutations()
			for _, field := range []struct {
				name  string
				isSet bool
			}{
				{"query_parameter_mutations", len(m.GetQueryParameterMutations()) > 0},
				{"request_trailers_mutations", len(m.GetRequestTrailersMutations()) > 0},
				{"response_trailers_mutations", len(m.GetResponseTrailersMutations()) > 0},
				{"formatters", len(m.GetFormatters()) > 0},
			} {
				if field.isSet {
					return nil, fmt.Errorf("mutations.%s: not supported", field.name)
				}
			}
			f := &httpFilter{name: name}
			var err error
			if f.request, err = compile("request_mutations", m.GetRequestMutations(), o); err != nil {
				return nil, err
			}
			if f.response, err = compile("response_mutations", m.GetResponseMutations(), o); err != nil {
				return nil, err
			}
			return f, nil
		},
	}
}

// mutation is one step. Without a value it removes.
type mutation struct {
	name      string
	value     *format.Format
	action    corev3.HeaderValueOption_HeaderAppendAction
	keepEmpty bool
}

func compile(field string, list []*rulesv3.HeaderMutation, o format.Options) ([]mutation, error) {
	var steps []mutation
	for i, c := range list {
		m, err := compileOne(c, o)
		if err != nil {
			return nil, fmt.Errorf("mutations.%s[%d].%w", field, i, err)
		}
		steps = append(steps, m)
	}
	return steps, nil
}

func compileOne(c *rulesv3.HeaderMutation, o format.Options) (mutation, error) {
	if err := c.Validate(); err != nil {
		return mutation{}, err
	}
	switch a := c.GetAction().(type) {
	case *rulesv3.HeaderMutation_Remove:
		m := mutation{name: strings.ToLower(a.Remove)}
		return m, wrap("remove", m.name, mutable(m.name))
	case *rulesv3.HeaderMutation_Append:
		m := mutation{
			name:      strings.ToLower(a.Append.GetHeader().GetKey()),
			action:    a.Append.GetAppendAction(),
			keepEmpty: a.Append.GetKeepEmptyValue(),
		}
		if err := mutable(m.name); err != nil {
			return m, wrap("append.header", m.name, err)
		}
		if a.Append.GetAppend() != nil { //nolint:staticcheck // deprecated, and not to be passed over
			return m, errors.New("append.append: not supported; use append_action")
		}
		if m.action < 0 || m.action > corev3.HeaderValueOption_OVERWRITE_IF_EXISTS {
			return m, fmt.Errorf("append.append_action: unknown value %d", m.action)
		}
		text := a.Append.GetHeader().GetValue()
		if raw := a.Append.GetHeader().GetRawValue(); len(raw) > 0 {
			text = string(raw)
		}
		var err error
		m.value, err = format.Compile(text, o)
		return m, wrap("append.header", m.name, err)
	default:
		return mutation{}, errors.New("remove_on_match: not supported")
	}
}

func wrap(field, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q: %w", field, name, err)
}

// mutable refuses the headers that are not a filter's to change.
func mutable(name string) error {
	switch name {
	case "host", "content-length", "transfer-encoding", "connection", "proxy-connection", "keep-alive", "upgrade", "te", "trailer":
		return errors.New("this header may not be changed")
	}
	if name == "" || name[0] == ':' {
		return errors.New("a pseudo-header may not be changed")
	}
	if strings.ContainsAny(name, " \t\r\n\x00:") {
		return errors.New("not the name of a header")
	}
	return nil
}

// apply changes a head.
func apply(steps []mutation, h *header.Fields, r *telemetry.Record) {
	for i := range steps {
		m := &steps[i]
		if m.value == nil {
			h.DelName(m.name)
			continue
		}
		overwrite := m.action == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD || m.action == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS
		v, _ := m.value.Value(r)
		if v == "" && !m.keepEmpty || strings.ContainsAny(v, "\r\n\x00") {
			if overwrite {
				h.DelName(m.name)
			}
			continue
		}
		_, there := h.Get(m.name)
		switch {
		case m.action == corev3.HeaderValueOption_ADD_IF_ABSENT && there, m.action == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS && !there:
		case overwrite:
			h.SetName(m.name, v)
		default:
			h.Append(m.name, v)
		}
	}
}

type httpFilter struct {
	name              string
	request, response []mutation
}

func (f *httpFilter) Name() string { return f.name }

// Request changes the request's head.
func (f *httpFilter) Request(x *filter.Exchange) filter.Action {
	apply(f.request, &x.Request.Fields, x.Record)
	return filter.Continue
}

// Response changes the response's head.
func (f *httpFilter) Response(x *filter.Exchange) {
	if len(f.response) == 0 {
		return
	}
	x.Record.ResponseHeaders = x.Response // for %RESP(…)%
	apply(f.response, &x.Response.Fields, x.Record)
}
