package route

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// typeName cuts a type URL down to the message's name.
func typeName(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

// filterConfigs compiles a typed_per_filter_config. An error is a reason to refuse the routes below it, not the configuration:
// Envoy takes what it has the filter for.
func (c *compiler) filterConfigs(path string, configs map[string]*anypb.Any) (map[string]any, error) {
	perRoute := c.opt.PerRoute
	if perRoute == nil {
		perRoute = c.filterConfig
	}
	var out map[string]any
	var refused []error
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		compiled, err := perRoute(name, configs[name])
		if err != nil {
			c.note(fmt.Sprintf("%s[%q]", path, name), err.Error())
			refused = append(refused, fmt.Errorf("%s[%q]: %w", path, name, err))
			continue
		}
		if compiled == nil {
			continue
		}
		if out == nil {
			out = map[string]any{}
		}
		out[name] = compiled
	}
	return out, errors.Join(refused...)
}

// filterConfig compiles one entry by its type.
func (c *compiler) filterConfig(_ string, config *anypb.Any) (any, error) {
	optional := false
	if typeName(config.GetTypeUrl()) == "envoy.config.route.v3.FilterConfig" {
		var w routev3.FilterConfig
		if err := config.UnmarshalTo(&w); err != nil {
			return nil, err
		}
		if w.GetDisabled() {
			return nil, errors.New("disabled: a route cannot turn a filter off here")
		}
		optional, config = w.GetIsOptional(), w.GetConfig()
	}
	kind, message, err := unpack(config)
	if err != nil {
		return nil, err
	}
	if k := c.opt.Filters.HTTP[kind]; k.NewRoute != nil && message != nil {
		return k.NewRoute(message)
	}
	if optional {
		return nil, nil
	}
	return nil, fmt.Errorf("%s is not supported", kind)
}

// unpack decodes an Any, going through TypedStruct. A type that is not linked in gives no message, or a Struct.
func unpack(a *anypb.Any) (kind string, m proto.Message, err error) {
	kind = typeName(a.GetTypeUrl())
	mt, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(kind))
	if err != nil {
		return kind, nil, nil //nolint:nilerr // the type is not linked in
	}
	m = mt.New().Interface()
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		return kind, nil, fmt.Errorf("not a valid %s: %w", kind, err)
	}
	var inside *structpb.Struct
	switch ts := m.(type) {
	case *udpav1.TypedStruct:
		kind, inside = typeName(ts.GetTypeUrl()), ts.GetValue()
	case *xdsv3.TypedStruct:
		kind, inside = typeName(ts.GetTypeUrl()), ts.GetValue()
	default:
		return kind, m, nil
	}
	if mt, err = protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(kind)); err != nil {
		return kind, inside, nil //nolint:nilerr // the type is not linked in
	}
	m = mt.New().Interface()
	text, err := protojson.Marshal(inside)
	if err == nil {
		err = protojson.Unmarshal(text, m)
	}
	return kind, m, at("TypedStruct of "+kind, err)
}
