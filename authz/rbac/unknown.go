package rbac

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// refuseUnknownFields returns an error for a field that is in the message but not in the protobufs compiled in: a
// newer control plane has sent a condition that this build would not apply.
func refuseUnknownFields(m proto.Message) error {
	return unknownFields(m.ProtoReflect())
}

func unknownFields(m protoreflect.Message) error {
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		number, _, _ := protowire.ConsumeTag(unknown)
		return fmt.Errorf("field %d of %s is not known to this build", number, m.Descriptor().FullName())
	}
	var err error
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() == nil {
				return true
			}
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				err = at(fmt.Sprintf("%s[%q]", field.Name(), key.String()), unknownFields(v.Message()))
				return err == nil
			})
		case field.Message() == nil:
		case field.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = at(fmt.Sprintf("%s[%d]", field.Name(), i), unknownFields(v.List().Get(i).Message()))
			}
		default:
			err = at(string(field.Name()), unknownFields(v.Message()))
		}
		return err == nil
	})
	return err
}
