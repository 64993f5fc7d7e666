package config

import (
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/waypoint/filter"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// formula is a substitution format string of a path: those few operators whose values are known from the endpoint.
type formula []formulaPart

type formulaPart struct {
	literal string
	op      string   // "" for a literal
	args    []string // of the operator
}

// parseFormula parses a format string. Operators beyond those of a path are an error: their values are known only at run time.
func parseFormula(s string) (formula, error) {
	var out formula
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			return append(out, formulaPart{literal: s}), nil
		}
		if i > 0 {
			out = append(out, formulaPart{literal: s[:i]})
		}
		end := strings.IndexByte(s[i+1:], '%')
		if end < 0 {
			return nil, fmt.Errorf("operator without an end in %q", s)
		}
		op := s[i+1 : i+1+end]
		s = s[i+end+2:]
		if op == "" { // %% is a percent sign
			out = append(out, formulaPart{literal: "%"})
			continue
		}
		name, args, _ := strings.Cut(strings.TrimSuffix(op, ")"), "(")
		p := formulaPart{op: name, args: strings.Split(args, ":")}
		switch {
		case op == "DOWNSTREAM_LOCAL_ADDRESS":
		case name == "DYNAMIC_METADATA" && strings.HasSuffix(op, ")"):
		case name == "FILTER_STATE" && strings.HasSuffix(op, ")") && (len(p.args) == 1 || len(p.args) == 2 && p.args[1] == "PLAIN"):
		default:
			return nil, fmt.Errorf("operator %%%s%% cannot be computed for an endpoint", op)
		}
		out = append(out, p)
	}
	return out, nil
}

// eval computes the formula; ok is false if a part has no value (Envoy would write "-").
func (f formula) eval(e *pathEnv) (value string, ok bool) {
	var b strings.Builder
	ok = true
	for _, p := range f {
		v, found := p.literal, true
		switch p.op {
		case "DOWNSTREAM_LOCAL_ADDRESS":
			v, found = e.local.String(), e.local.IsValid()
		case "DYNAMIC_METADATA":
			v, found = e.metadata(p.args[0], p.args[1:]...)
		case "FILTER_STATE":
			v, found = e.state[p.args[0]].value, e.state[p.args[0]].value != ""
		}
		if !found {
			ok = false
			v = "-"
		}
		b.WriteString(v)
	}
	return b.String(), ok
}

// perConnection tells whether the formula asks for filter state that nothing on the path sets: Envoy's filters leave it with each
// connection, while here a path is computed once per endpoint.
func (f formula) perConnection() bool {
	for _, p := range f {
		if p.op == "FILTER_STATE" && !pathStates[p.args[0]] {
			return true
		}
	}
	return false
}

// pathStates is the filter state that istiod's paths set by themselves.
var pathStates = map[string]bool{filter.OriginalDstLocal: true, "istio.double_hbone.hbone_target_address": true}

// pathEnv is what the connection to an internal listener carries.
type pathEnv struct {
	local netip.AddrPort // restored original destination; not valid: none
	meta  *corev3.Metadata
	// passed are the namespaces of meta that the transport socket let through.
	passed *transport
	state  map[string]stateValue
}

type stateValue struct {
	value      string
	transitive bool
}

// metadata returns a string of the endpoint metadata that was passed on.
func (e *pathEnv) metadata(namespace string, path ...string) (string, bool) {
	if e.passed == nil || !e.passed.passes(namespace) {
		return "", false
	}
	return metadataString(e.meta, namespace, path...)
}

// metadataString walks metadata; ok is false if there is no string at the path.
func metadataString(m *corev3.Metadata, namespace string, path ...string) (string, bool) {
	v := structpb.NewStructValue(m.GetFilterMetadata()[namespace])
	for _, key := range path {
		if v = v.GetStructValue().GetFields()[key]; v == nil {
			return "", false
		}
	}
	s, ok := v.GetKind().(*structpb.Value_StringValue)
	if !ok {
		return "", false
	}
	return s.StringValue, true
}
