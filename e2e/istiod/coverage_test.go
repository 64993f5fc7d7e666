package istiod

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	securityv1beta1 "istio.io/api/security/v1beta1"
)

// Every field of the two objects, and every value of their enums, is in an object of the corpus that istiod takes: a field
// that is new in a later API fails here until the corpus has it.
func TestCoversFields(t *testing.T) {
	set := map[string]bool{}
	for _, e := range corpus(t) {
		if e.Spec != nil && !isInvalid(e) {
			visit(e.Spec.ProtoReflect(), set)
		}
	}
	var missing []string
	for _, m := range []proto.Message{&securityv1beta1.AuthorizationPolicy{}, &securityv1beta1.RequestAuthentication{}} {
		all := map[string]bool{}
		declared(m.ProtoReflect().Descriptor(), all)
		for name := range all {
			if !set[name] {
				missing = append(missing, name)
			}
		}
	}
	slices.Sort(missing)
	for _, name := range slices.Compact(missing) {
		t.Errorf("%s is in no policy of the corpus that istiod takes", name)
	}
}

// unset are fields that istiod's validation wants empty.
var unset = []string{"istio.type.v1beta1.PolicyTargetReference.namespace"}

// declared lists the fields and enum values of a message and of those in it.
func declared(m protoreflect.MessageDescriptor, into map[string]bool) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		name := string(f.FullName())
		if into[name] || slices.Contains(unset, name) {
			continue
		}
		into[name] = true
		if e := f.Enum(); e != nil {
			for j := range e.Values().Len() {
				into[name+"="+string(e.Values().Get(j).Name())] = true
			}
		}
		if f.Message() != nil && !f.IsMap() && f.Message().ParentFile().Package() != "google.protobuf" {
			declared(f.Message(), into)
		}
	}
}

// visit adds the fields that are set, and the values of enums, set or not.
func visit(m protoreflect.Message, into map[string]bool) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.Enum() != nil {
			value := f.Enum().Values().ByNumber(m.Get(f).Enum())
			into[string(f.FullName())+"="+string(value.Name())] = true
			into[string(f.FullName())] = true
		}
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		into[string(f.FullName())] = true
		switch {
		case f.IsMap() || f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				visit(v.List().Get(i).Message(), into)
			}
		default:
			visit(v.Message(), into)
		}
		return true
	})
}

// wildcards are the ways in which a value can be written.
var wildcards = []string{"exact", "prefix", "suffix", "any", "inside"}

func wildcard(v string) string {
	switch {
	case v == "*":
		return "any"
	case strings.HasPrefix(v, "*"):
		return "suffix"
	case strings.HasSuffix(v, "*"):
		return "prefix"
	case strings.Contains(v, "*"):
		return "inside"
	}
	return "exact"
}

// Fields and conditions of which istiod does not take each way of writing.
var fewerWildcards = map[string][]string{
	"ports": {"exact"}, "ip_blocks": {"exact"}, "remote_ip_blocks": {"exact"}, "service_accounts": {"exact"},
	"trust_domains": {"exact", "prefix", "suffix", "any"}, "source.trustDomain": {"exact", "prefix", "suffix", "any"},
	"source.ip": {"exact"}, "remote.ip": {"exact"}, "destination.ip": {"exact"}, "destination.port": {"exact"}, "source.serviceAccount": {"exact"},
}

// keys are the attributes of conditions; those in brackets stand for all names.
var keys = []string{
	"request.headers", "source.ip", "remote.ip", "source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal",
	"request.auth.principal", "request.auth.audiences", "request.auth.presenter", "request.auth.claims",
	"destination.ip", "destination.port", "connection.sni", "experimental.envoy.filters",
}

// Every field and every attribute has each of its wildcards, as a value and as a notValue, one value alone and several.
func TestCoversWildcards(t *testing.T) {
	seen := map[string]bool{}
	values := func(name string, list []string) {
		for _, v := range list {
			seen[name+" "+wildcard(v)] = true
		}
		if len(list) > 1 {
			seen[name+" several"] = true
		}
	}
	fields := map[string]bool{}
	add := func(m protoreflect.Message) {
		for i := range m.Descriptor().Fields().Len() {
			f := m.Descriptor().Fields().Get(i)
			fields[string(f.Name())] = true
			var list []string
			for j := range m.Get(f).List().Len() {
				list = append(list, m.Get(f).List().Get(j).String())
			}
			values(string(f.Name()), list)
		}
	}
	for _, e := range corpus(t) {
		p, ok := e.Spec.(*securityv1beta1.AuthorizationPolicy)
		if !ok || isInvalid(e) {
			continue
		}
		for _, r := range p.GetRules() {
			for _, from := range r.GetFrom() {
				add(from.GetSource().ProtoReflect())
			}
			for _, to := range r.GetTo() {
				add(to.GetOperation().ProtoReflect())
			}
			for _, when := range r.GetWhen() {
				key := when.GetKey()
				for _, prefix := range []string{"request.headers", "request.auth.claims", "experimental.envoy.filters"} {
					if strings.HasPrefix(key, prefix) {
						key = prefix
					}
				}
				if !slices.Contains(keys, key) {
					t.Errorf("%s: %q is none of the keys of this test", e, key)
				}
				values(key, when.GetValues())
				values("not_"+key, when.GetNotValues())
			}
		}
	}
	names := slices.Clone(keys)
	for _, k := range keys {
		names = append(names, "not_"+k)
	}
	for f := range fields {
		names = append(names, f)
	}
	for _, name := range names {
		want := wildcards
		if fewer, ok := fewerWildcards[strings.TrimPrefix(name, "not_")]; ok {
			want = fewer
		}
		for _, w := range append(slices.Clone(want), "several") {
			if !seen[name+" "+w] {
				t.Errorf("%s: no policy with %s", name, w)
			}
		}
	}
}
