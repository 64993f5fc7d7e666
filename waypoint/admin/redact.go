package admin

import (
	"sync"

	"github.com/cncf/xds/go/udpa/annotations"
	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// redactedText is what Envoy writes in the place of a secret.
const redactedText = "[redacted]"

// redact returns a resource without what its protos mark as sensitive (option udpa.annotations.sensitive): private keys,
// passwords, tokens, in Anys within it too. A resource without any is returned as it is, byte for byte.
func redact(a *anypb.Any) *anypb.Any { return redactAny(a, false) }

func redactAny(a *anypb.Any, sensitive bool) *anypb.Any {
	mt, err := protoregistry.GlobalTypes.FindMessageByURL(a.GetTypeUrl())
	if err != nil {
		return a // shown as size and digest
	}
	m := mt.New()
	if (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(a.GetValue(), m.Interface()) != nil {
		return a // likewise
	}
	if !redactMessage(m, sensitive) {
		return a
	}
	b, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(m.Interface())
	if err != nil {
		b = nil // rather nothing than a secret
	}
	return &anypb.Any{TypeUrl: a.GetTypeUrl(), Value: b}
}

// redactMessage replaces what is sensitive and tells whether there was any. Of a sensitive message the texts and bytes are replaced
// and the other values cleared, at any depth.
func redactMessage(m protoreflect.Message, sensitive bool) (changed bool) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		r := redactAny(a, sensitive)
		if r == a {
			return false
		}
		a.Value = r.GetValue()
		return true
	}
	if !sensitive {
		switch ts := m.Interface().(type) {
		case *udpav1.TypedStruct:
			return redactStruct(ts.GetTypeUrl(), ts.GetValue())
		case *xdsv3.TypedStruct:
			return redactStruct(ts.GetTypeUrl(), ts.GetValue())
		}
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		secret := sensitive || isSensitive(fd)
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool {
				if fd.MapValue().Message() != nil {
					changed = redactMessage(e.Message(), secret) || changed
				} else if secret {
					v.Map().Set(k, redactedValue(fd.MapValue()))
					changed = true
				}
				return true
			})
		case fd.IsList():
			for i := range v.List().Len() {
				if fd.Message() != nil {
					changed = redactMessage(v.List().Get(i).Message(), secret) || changed
				} else if secret {
					v.List().Set(i, redactedValue(fd))
					changed = true
				}
			}
		case fd.Message() != nil:
			changed = redactMessage(v.Message(), secret) || changed
		case secret:
			m.Set(fd, redactedValue(fd))
			changed = true
		}
		return true
	})
	return changed
}

// redactStruct redacts the JSON that stands for a message of a type that is linked in. One of another type is left alone: nothing says
// which of its members are secret, and Istio's own filters come this way.
func redactStruct(url string, value *structpb.Struct) bool {
	mt, err := protoregistry.GlobalTypes.FindMessageByURL(url)
	if err != nil || value == nil {
		return false
	}
	m := mt.New().Interface()
	text, err := protojson.Marshal(value)
	if err != nil || (protojson.UnmarshalOptions{DiscardUnknown: true, AllowPartial: true}).Unmarshal(text, m) != nil {
		return false // not what it claims to be, and no part of the configuration in force
	}
	if !redactMessage(m.ProtoReflect(), false) {
		return false
	}
	clean := &structpb.Struct{}
	if text, err = (protojson.MarshalOptions{UseProtoNames: true, AllowPartial: true}).Marshal(m); err == nil {
		_ = protojson.Unmarshal(text, clean) // a message is a JSON object
	}
	value.Fields = clean.GetFields()
	return true
}

func redactedValue(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(redactedText)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(redactedText))
	}
	return fd.Default()
}

// sensitiveFields remembers which fields are marked; to look means to decode the field's options.
var sensitiveFields sync.Map // protoreflect.FieldDescriptor -> bool

func isSensitive(fd protoreflect.FieldDescriptor) bool {
	if known, ok := sensitiveFields.Load(fd); ok {
		return known.(bool)
	}
	o, _ := fd.Options().(*descriptorpb.FieldOptions)
	is := o != nil && proto.GetExtension(o, annotations.E_Sensitive).(bool)
	sensitiveFields.Store(fd, is)
	return is
}
