package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/runtime/protoiface"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// resolver finds the messages in Anys for protojson, which fails on a type that it cannot find. A type that is not linked into this
// program is given a stand-in that takes any bytes and shows as
//
//	{"@type": "type.googleapis.com/…", "undecoded_bytes": 17, "undecoded_sha256": "9f86d0…"}
//
// That is enough to tell that two proxies have the same, and no more: what is inside cannot be redacted field by field. No proto
// has fields of these names, so that a reader that does know the type skips them.
type resolver struct {
	// only lists prefixes of the message names that are decoded; nil: all that are linked in.
	only []string
}

// depths are how much of a dump is decoded, most first: everything; the resources without their extensions; nothing of what came.
var depths = []resolver{{}, {only: []string{"envoy.admin.v3.", "envoy.config."}}, {only: []string{"envoy.admin.v3."}}}

func (r resolver) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	name := url[strings.LastIndexByte(url, '/')+1:]
	wanted := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	if r.only == nil || slices.ContainsFunc(r.only, wanted) {
		if mt, err := protoregistry.GlobalTypes.FindMessageByURL(url); err == nil {
			return mt, nil
		}
	}
	return undecodedType(), nil
}

func (resolver) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	return protoregistry.GlobalTypes.FindMessageByName(name)
}

func (resolver) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return protoregistry.GlobalTypes.FindExtensionByName(name)
}

func (resolver) FindExtensionByNumber(name protoreflect.FullName, n protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return protoregistry.GlobalTypes.FindExtensionByNumber(name, n)
}

// undecodedType is made when it is first needed, which in most proxies is never.
var undecodedType = sync.OnceValue(func() protoreflect.MessageType {
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("undecoded.proto"), Package: proto.String("waypoint.admin"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("Undecoded"),
			Field: []*descriptorpb.FieldDescriptorProto{
				undecodedField("undecoded_bytes", 1, descriptorpb.FieldDescriptorProto_TYPE_UINT32),
				undecodedField("undecoded_sha256", 2, descriptorpb.FieldDescriptorProto_TYPE_STRING),
			},
		}},
	}, nil)
	if err != nil {
		panic(err) // the descriptor above is a constant
	}
	return undecodedMessageType{dynamicpb.NewMessageType(file.Messages().Get(0))}
})

func undecodedField(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
	return &descriptorpb.FieldDescriptorProto{
		Name: proto.String(name), Number: proto.Int32(number), Type: kind.Enum(),
		Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}
}

type undecodedMessageType struct{ protoreflect.MessageType }

func (t undecodedMessageType) New() protoreflect.Message { return undecoded{t.MessageType.New()} }

// undecoded is a message that describes the bytes which it is decoded from, whatever they are.
type undecoded struct{ protoreflect.Message }

func (u undecoded) ProtoReflect() protoreflect.Message   { return u }
func (u undecoded) Interface() protoreflect.ProtoMessage { return u }
func (u undecoded) ProtoMethods() *protoiface.Methods {
	return &protoiface.Methods{Unmarshal: u.describe}
}
func (u undecoded) describe(in protoiface.UnmarshalInput) (protoiface.UnmarshalOutput, error) {
	fields := u.Descriptor().Fields()
	sum := sha256.Sum256(in.Buf)
	u.Set(fields.ByNumber(1), protoreflect.ValueOfUint32(uint32(len(in.Buf)))) //nolint:gosec // a gRPC message has less than 4 GiB
	u.Set(fields.ByNumber(2), protoreflect.ValueOfString(hex.EncodeToString(sum[:])))
	return protoiface.UnmarshalOutput{Flags: protoiface.UnmarshalInitialized}, nil
}
