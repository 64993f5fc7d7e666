package config

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
)

// Extension messages must be linked in to be decoded from an Any.
import (
	_ "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_web/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/mongo_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/cel/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/req_without_query/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	_ "istio.io/api/envoy/extensions/stats"
)

// typedStruct names the two forms of TypedStruct that Envoy knows.
var typedStruct = map[string]bool{"udpa.type.v1.TypedStruct": true, "xds.type.v3.TypedStruct": true}

// extension is what an Any holds, as far as it can be known.
type extension struct {
	// Type is the name of the message that is meant: that inside of a TypedStruct.
	Type string
	// Message is nil if the type is not linked into this program. A TypedStruct of such a type is a *structpb.Struct.
	Message proto.Message
}

// decoder decodes Anys once while one part is compiled, so that the compiler and the census look at the same messages.
type decoder struct {
	seen map[*anypb.Any]extension
}

func newDecoder() *decoder { return &decoder{seen: map[*anypb.Any]extension{}} }

// any decodes an Any, going through TypedStruct. A type that is not linked in is no error: Message is nil.
func (d *decoder) any(a *anypb.Any) (extension, error) {
	if a == nil {
		return extension{}, nil
	}
	if e, ok := d.seen[a]; ok {
		return e, nil
	}
	e, err := decodeAny(a)
	if err != nil {
		return e, err
	}
	d.seen[a] = e
	return e, nil
}

func decodeAny(a *anypb.Any) (extension, error) {
	e := extension{Type: typeName(a.GetTypeUrl())}
	mt, err := protoregistry.GlobalTypes.FindMessageByURL(a.GetTypeUrl())
	if err != nil {
		return e, nil //nolint:nilerr // the type is not linked in: no Message says so
	}
	m := mt.New().Interface()
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		return e, fmt.Errorf("not a valid %s: %w", e.Type, err)
	}
	switch ts := m.(type) {
	case *udpav1.TypedStruct:
		return decodeStruct(ts.GetTypeUrl(), ts.GetValue())
	case *xdsv3.TypedStruct:
		return decodeStruct(ts.GetTypeUrl(), ts.GetValue())
	}
	e.Message = m
	return e, nil
}

// decodeStruct turns a TypedStruct into the message that it stands for, as Envoy does, or leaves the Struct. Types that fields.txt
// knows as structs are left even if some other package of the program links their messages in: what a configuration means does
// not depend on that.
func decodeStruct(typeURL string, value *structpb.Struct) (extension, error) {
	e := extension{Type: typeName(typeURL)}
	if value == nil {
		value = &structpb.Struct{}
	}
	table, err := fields()
	if err != nil {
		return e, err
	}
	mt, err := protoregistry.GlobalTypes.FindMessageByURL(typeURL)
	if err != nil || typedStruct[e.Type] || table.messages["struct:"+e.Type] {
		e.Message = value
		return e, nil //nolint:nilerr // the type is not linked in: the Struct stays
	}
	j, err := protojson.Marshal(value)
	if err != nil {
		return e, fmt.Errorf("TypedStruct of %s: %w", e.Type, err)
	}
	m := mt.New().Interface()
	if err := protojson.Unmarshal(j, m); err != nil {
		return e, fmt.Errorf("TypedStruct of %s: %w", e.Type, err)
	}
	e.Message = m
	return e, nil
}

// typeName cuts a type URL down to the message name.
func typeName(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

// decodeAs decodes an Any that must be a T. A nil Any yields the zero message.
func decodeAs[T proto.Message](d *decoder, a *anypb.Any, want T) (T, error) {
	if a == nil {
		return want, nil
	}
	e, err := d.any(a)
	if err != nil {
		return want, err
	}
	m, ok := e.Message.(T)
	if !ok {
		return want, fmt.Errorf("is a %s, not a %s", e.Type, want.ProtoReflect().Descriptor().FullName())
	}
	return m, nil
}
