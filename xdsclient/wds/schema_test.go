package wds

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// schema is istio.workload.Workload as a descriptor in a registry of its own, so that tests encode and decode with the real protobuf
// library. Fields that Decode skips are here too, to be skipped.
func schema(t testing.TB) protoreflect.MessageDescriptor {
	t.Helper()
	field := func(name string, num int32, typ descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{
			Name: proto.String(name), Number: proto.Int32(num), Type: typ.Enum(),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
	}
	const (
		str   = descriptorpb.FieldDescriptorProto_TYPE_STRING
		bin   = descriptorpb.FieldDescriptorProto_TYPE_BYTES
		i32   = descriptorpb.FieldDescriptorProto_TYPE_INT32 // the wire form of an enum
		flag  = descriptorpb.FieldDescriptorProto_TYPE_BOOL
		embed = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
	)
	addresses := field("addresses", 3, bin)
	addresses.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	policies := field("authorization_policies", 16, bin) // a string, but Decode does not look into what it skips
	policies.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	locality := field("locality", 24, embed)
	locality.TypeName = proto.String(".istio.workload.Locality")
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("workload.proto"), Package: proto.String("istio.workload"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: proto.String("Workload"), Field: []*descriptorpb.FieldDescriptorProto{
				field("name", 1, str), field("namespace", 2, str), addresses, field("network", 4, str),
				field("tunnel_protocol", 5, i32), field("trust_domain", 6, str), field("service_account", 7, str),
				field("node", 9, str), field("canonical_name", 10, str), field("canonical_revision", 11, str),
				field("workload_type", 12, i32), field("workload_name", 13, str), field("native_tunnel", 14, flag), policies,
				field("status", 17, i32), field("cluster_id", 18, str), field("uid", 20, str), field("hostname", 21, bin),
				locality, field("network_mode", 25, i32),
			}},
			{Name: proto.String("Locality"), Field: []*descriptorpb.FieldDescriptorProto{
				field("region", 1, str), field("zone", 2, str), field("subzone", 3, str),
			}},
		},
	}, new(protoregistry.Files))
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages().ByName("Workload")
}

// message builds a Workload; keys are field names, "region" and so on belong to the locality.
func message(t testing.TB, fields map[string]any) *dynamicpb.Message {
	t.Helper()
	m := dynamicpb.NewMessage(schema(t))
	for name, value := range fields {
		in := protoreflect.Message(m)
		switch name {
		case "region", "zone", "subzone":
			in = m.Mutable(m.Descriptor().Fields().ByName("locality")).Message()
		}
		fd := in.Descriptor().Fields().ByName(protoreflect.Name(name))
		if fd == nil {
			t.Fatalf("no field %q", name)
		}
		if !fd.IsList() {
			in.Set(fd, protoreflect.ValueOf(value))
			continue
		}
		list := in.Mutable(fd).List()
		for _, v := range value.([][]byte) {
			list.Append(protoreflect.ValueOfBytes(v))
		}
	}
	return m
}

func encode(t testing.TB, fields map[string]any) []byte {
	t.Helper()
	b, err := proto.Marshal(message(t, fields))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
