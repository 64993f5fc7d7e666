package config

import (
	"testing"

	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// A filter that takes its configuration as a Struct gets a Struct, whatever else is linked into the program: go-control-plane's
// contrib packages, which istiod links, have a message of this name.
func TestStructStaysStruct(t *testing.T) {
	const name = "envoy.tcp.metadataexchange.config.MetadataExchange"
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("metadata_exchange.proto"), Package: proto.String("envoy.tcp.metadataexchange.config"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("MetadataExchange"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("protocol"), Number: proto.Int32(1), JsonName: proto.String("protocol"),
			Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := protoregistry.GlobalTypes.RegisterMessage(dynamicpb.NewMessageType(file.Messages().Get(0))); err != nil {
		t.Fatal(err)
	}
	value, err := structpb.NewStruct(map[string]any{"protocol": "istio-peer-exchange"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := anypb.New(&udpav1.TypedStruct{TypeUrl: "type.googleapis.com/" + name, Value: value})
	if err != nil {
		t.Fatal(err)
	}
	e, err := decodeAny(a)
	if err != nil || e.Type != name || !proto.Equal(e.Message, value) {
		t.Errorf("%+v, %v", e, err)
	}
}
