package rbac

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	networkinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	sslv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/metadata/v3"
	uritemplatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/rbac/audit_loggers/stream/v3"
	mtlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/rbac/principals/mtls_authenticated/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// extensions are the messages that fixtures hold inside an Any; what they are reached through does not say.
var extensions = []proto.Message{
	&rbacv3.Action{}, &uritemplatev3.UriTemplateMatchConfig{}, &mtlsv3.Config{}, &streamv3.StdoutAuditLog{},
	&xdsmatcherv3.IPMatcher{}, &xdsmatcherv3.ServerNameMatcher{}, &ipv3.Ip{}, &metadatav3.Metadata{},
	&matcherv3.HttpRequestHeaderMatchInput{}, &networkinputsv3.FilterStateInput{}, &networkinputsv3.DynamicMetadataInput{},
	&networkinputsv3.SourceIPInput{}, &networkinputsv3.DirectSourceIPInput{}, &networkinputsv3.DestinationIPInput{},
	&networkinputsv3.DestinationPortInput{}, &networkinputsv3.ServerNameInput{},
	&sslv3.UriSanInput{}, &sslv3.DnsSanInput{}, &sslv3.SubjectInput{},
}

// inert are the fields that change nothing, and why that lets nothing pass.
var inert = map[string]string{
	"envoy.config.core.v3.TypedExtensionConfig.name":                              "a label; the type says which extension it is",
	"xds.core.v3.TypedExtensionConfig.name":                                       "a label; the type says which extension it is",
	"envoy.type.matcher.v3.RegexMatcher.google_re2":                               "RE2 is the only engine",
	"envoy.type.matcher.v3.RegexMatcher.GoogleRE2.max_program_size":               "deprecated, and Envoy does not look at it either",
	"xds.type.matcher.v3.RegexMatcher.google_re2":                                 "RE2 is the only engine, and the field required",
	"envoy.extensions.matching.input_matchers.ip.v3.Ip.stat_prefix":               "names a counter",
	"envoy.config.rbac.v3.RBAC.AuditLoggingOptions.AuditLoggerConfig.is_optional": "of a logger that is known",
	"envoy.extensions.filters.network.rbac.v3.RBAC.enforcement_type":              "the default when it is ONE_TIME_ON_FIRST_BYTE",
	"envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher.oid":         "of an OTHER_NAME, which is refused",
}

// sometimes are fields that make no difference in one fixture, and in another they do.
var sometimes = map[string]string{
	"envoy.config.route.v3.HeaderMatcher.present_match": "a name alone asks for presence too",
	"envoy.extensions.filters.http.rbac.v3.RBAC.rules":  "beside a matcher, which takes their place",
	"envoy.config.rbac.v3.RBAC.policies":                "beside a matcher, which takes their place",
}

// TestEveryField walks the messages that make up RBAC and fails for any field that no fixture shows to be translated, none shows
// to be refused, and that is not one of the few above. A field counts as translated when without it the fixture means something
// else, and as refused when an error names it that is not the same without it. So a field of a new release of the API, or one that
// is forgotten, makes the test fail, and so does one that is read and then not used.
func TestEveryField(t *testing.T) {
	translated, refused, enums := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, m := range fixtureMessages(t) {
		was, wasErr := meaning(m)
		for _, v := range variants(m.ProtoReflect()) {
			for _, value := range v.enums {
				enums[value] = true
			}
			is, err := meaning(v.m)
			switch {
			case wasErr == nil && err == nil && reflect.DeepEqual(was, is):
				if inert[v.field] == "" && sometimes[v.field] == "" {
					t.Errorf("%s is set in a fixture that means the same without it:\n%v", v.field, m)
				}
			case wasErr == nil:
				translated[v.field] = true
			case err == nil || err.Error() != wasErr.Error():
				if name := v.field[strings.LastIndex(v.field, ".")+1:]; strings.Contains(wasErr.Error(), name) {
					refused[v.field] = true
				}
			}
		}
	}
	roots := append([]proto.Message{&httpv3.RBAC{}, &httpv3.RBACPerRoute{}, &networkv3.RBAC{}}, extensions...)
	seen, fields := map[protoreflect.FullName]bool{}, 0
	var walk func(protoreflect.MessageDescriptor)
	walk = func(d protoreflect.MessageDescriptor) {
		if seen[d.FullName()] || d.FullName() == "google.protobuf.Any" {
			return
		}
		seen[d.FullName()] = true
		for i := range d.Fields().Len() {
			field := d.Fields().Get(i)
			name := string(field.FullName())
			fields++
			if !translated[name] && !refused[name] && inert[name] == "" {
				t.Errorf("%s: no fixture shows that it is translated, or refused by name", name)
			}
			of := field
			if field.IsMap() {
				of = field.MapValue()
			}
			if of.Message() != nil && translated[name] { // what is below a refused field is refused with it
				walk(of.Message())
			}
			if of.Enum() != nil {
				for j := range of.Enum().Values().Len() {
					value := of.Enum().Values().Get(j)
					if value.Number() != 0 && !enums[string(value.FullName())] {
						t.Errorf("%s: no fixture has the value %s", name, value.Name())
					}
				}
			}
		}
	}
	translated["envoy.extensions.filters.http.rbac.v3.RBACPerRoute.rbac"] = true // TestPerRoute
	for _, m := range roots {
		walk(m.ProtoReflect().Descriptor())
	}
	t.Logf("%d messages with %d fields; %d translated, %d refused in some fixture", len(seen), fields, len(translated), len(refused))
}

func fixtureMessages(t *testing.T) []proto.Message {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	var all []proto.Message
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks(string(text)) {
			if b.isConfig() {
				all = append(all, parseBlock(t, b))
			}
		}
	}
	return all
}

// meaning is everything that a message comes to, before package authz compiles it into what can't be compared.
func meaning(m proto.Message) (any, error) {
	f, err := compileMessage(m)
	if err != nil {
		return nil, err
	}
	f.Enforced, f.Shadow = nil, nil
	if rules, ok := m.(*rbacv3.RBAC); ok {
		return translate(rules, http)
	}
	s, l := sources{}, http
	switch m := m.(type) {
	case *httpv3.RBAC:
		s = ofHTTP(m)
	case *networkv3.RBAC:
		s, l = ofNetwork(m), network
	}
	enforced, err := f.translate("", s.rules, s.matcher, l)
	if err != nil {
		return nil, err
	}
	shadow, err := f.translate("shadow_", s.shadowRules, s.shadowMatcher, l)
	f.Notes = nil // where a tree takes the place of rules, the note is not what makes the difference
	return []any{f, enforced, shadow}, err
}

// variant is a message without one of its fields.
type variant struct {
	field string
	m     proto.Message
	enums []string // the values that the field had
}

// variants takes away every field that is set, one after the other, however deep it is.
func variants(m protoreflect.Message) []variant {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil {
			panic(err)
		}
		var all []variant
		for _, v := range variants(inner.ProtoReflect()) {
			repacked, err := anypb.New(v.m)
			if err != nil {
				panic(err)
			}
			all = append(all, variant{v.field, repacked, v.enums})
		}
		return all
	}
	var all []variant
	// with returns m with a part of a field changed.
	with := func(v variant, set func(of protoreflect.Message, part protoreflect.Value)) variant {
		whole := proto.Clone(m.Interface())
		set(whole.ProtoReflect(), protoreflect.ValueOfMessage(v.m.ProtoReflect()))
		return variant{v.field, whole, v.enums}
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		less := proto.Clone(m.Interface())
		less.ProtoReflect().Clear(field)
		v := variant{field: string(field.FullName()), m: less}
		if field.Enum() != nil {
			if named := field.Enum().Values().ByNumber(value.Enum()); named != nil {
				v.enums = []string{string(named.FullName())}
			}
		}
		all = append(all, v)
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			value.Map().Range(func(key protoreflect.MapKey, part protoreflect.Value) bool {
				for _, v := range variants(part.Message()) {
					all = append(all, with(v, func(of protoreflect.Message, part protoreflect.Value) { of.Mutable(field).Map().Set(key, part) }))
				}
				return true
			})
		case field.IsMap() || field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				for _, v := range variants(value.List().Get(i).Message()) {
					all = append(all, with(v, func(of protoreflect.Message, part protoreflect.Value) { of.Mutable(field).List().Set(i, part) }))
				}
			}
		default:
			for _, v := range variants(value.Message()) {
				all = append(all, with(v, func(of protoreflect.Message, part protoreflect.Value) { of.Set(field, part) }))
			}
		}
		return true
	})
	return all
}
