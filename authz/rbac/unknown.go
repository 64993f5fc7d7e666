package rbac

import (
	"fmt"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
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
	if rules, ok := m.Interface().(*rbacv3.RBAC); ok && surelyKnown(rules) {
		return nil
	}
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
				if err = unknownFields(v.Message()); err != nil {
					err = at(fmt.Sprintf("%s[%q]", field.Name(), key.String()), err)
				}
				return err == nil
			})
		case field.Message() == nil:
		case field.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				if err = unknownFields(v.List().Get(i).Message()); err != nil { // a large set has many, so no name is made before
					err = at(fmt.Sprintf("%s[%d]", field.Name(), i), err)
				}
			}
		default:
			err = at(string(field.Name()), unknownFields(v.Message()))
		}
		return err == nil
	})
	return err
}
