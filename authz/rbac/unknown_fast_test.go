package rbac

import (
	"slices"
	"strings"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// surelyKnown has a case for every message in these, or gives up at it.
func TestSurelyKnownKnowsAllFields(t *testing.T) {
	for want, m := range map[string]proto.Message{
		"audit_logging_options policies":                                &rbacv3.RBAC{},
		"cel_config checked_condition condition permissions principals": &rbacv3.Policy{},
		"rules":      &rbacv3.Permission_Set{},
		"ids":        &rbacv3.Principal_Set{},
		"google_re2": &matcherv3.RegexMatcher{},
		// Of the messages with a oneof, those outside of it.
		"": &rbacv3.Permission{}, " ": &rbacv3.Principal{}, "  ": &routev3.HeaderMatcher{}, "   ": &matcherv3.StringMatcher{}, "    ": &matcherv3.FilterStateMatcher{}, "     ": &matcherv3.PathMatcher{},
	} {
		var got []string
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			oneof := f.ContainingOneof()
			if f.Message() != nil && (oneof == nil || m.ProtoReflect().Descriptor().Name() == "RegexMatcher") {
				got = append(got, string(f.Name()))
			}
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != strings.TrimSpace(want) {
			t.Errorf("%s has messages in %q, surelyKnown knows of %q", m.ProtoReflect().Descriptor().Name(), s, want)
		}
	}
}

// An unknown field is found wherever it is, in everything that surelyKnown goes through.
func TestSurelyKnownFindsUnknownFields(t *testing.T) {
	rules := parse(t, &rbacv3.RBAC{}, `{"policies": {"p": {
		"permissions": [{"and_rules": {"rules": [
			{"or_rules": {"rules": [{"header": {"name": ":method", "string_match": {"exact": "GET"}}}, {"header": {"name": "x"}}]}},
			{"not_rule": {"url_path": {"path": {"safe_regex": {"regex": "a"}}}}}, {"destination_port": 80}]}}],
		"principals": [{"and_ids": {"ids": [
			{"or_ids": {"ids": [{"filter_state": {"key": "k", "string_match": {"prefix": "x"}}}, {"url_path": {"path": {"suffix": "a"}}}]}},
			{"not_id": {"header": {"name": "x", "string_match": {"contains": "GET"}}}}, {"any": true}]}}]}}}`)
	if !surelyKnown(rules) || !surelyValid(rules) {
		t.Fatal("surelyKnown gives up at what istiod writes")
	}
	for name, invalid := range map[string]*rbacv3.RBAC{
		"action": {Action: 77}, "policy": {Policies: map[string]*rbacv3.Policy{"p": nil}}, "empty": {Policies: map[string]*rbacv3.Policy{"p": {}}},
		"rule": {Policies: map[string]*rbacv3.Policy{"p": {Permissions: []*rbacv3.Permission{{}}, Principals: []*rbacv3.Principal{{}}}}},
	} {
		if surelyValid(invalid) {
			t.Errorf("%s: not valid, but surelyValid", name)
		}
	}
	n := 0
	eachMessage(rules.ProtoReflect(), func(m protoreflect.Message) {
		n++
		m.SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 77, protowire.VarintType), 1))
		if surelyKnown(rules) || surelyValid(rules) {
			t.Errorf("an unknown field in %s is not found", m.Descriptor().FullName())
		}
		if _, err := Compile(rules); err == nil {
			t.Errorf("an unknown field in %s is ignored", m.Descriptor().FullName())
		}
		m.SetUnknown(nil)
	})
	if n < 30 {
		t.Errorf("only %d messages", n)
	}
}

func eachMessage(m protoreflect.Message, do func(protoreflect.Message)) {
	do(m)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { eachMessage(v.Message(), do); return true })
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				eachMessage(v.List().Get(i).Message(), do)
			}
		default:
			eachMessage(v.Message(), do)
		}
		return true
	})
}
