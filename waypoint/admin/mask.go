package admin

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// mask is a google.protobuf.FieldMask as a tree: field name to the mask of what is inside; an empty one means all of it.
type mask map[protoreflect.Name]mask

// parseMask reads "a.b,c".
func parseMask(text string) mask {
	root := mask{}
	for path := range strings.SplitSeq(text, ",") {
		if path = strings.TrimSpace(path); path != "" {
			root.add(strings.Split(path, "."))
		}
	}
	return root
}

func (m mask) add(path []string) {
	name := protoreflect.Name(path[0])
	inner, known := m[name]
	switch {
	case len(path) == 1:
		m[name] = mask{} // the whole field, whatever else is said of it
	case known && len(inner) == 0:
		// The whole field was named before.
	default:
		if !known {
			inner = mask{}
			m[name] = inner
		}
		inner.add(path[1:])
	}
}

// fits tells whether every path exists in messages of this type. A path does not go on through a repeated field or a map.
func (m mask) fits(d protoreflect.MessageDescriptor) bool {
	for name, inner := range m {
		fd := d.Fields().ByName(name)
		if fd == nil {
			return false
		}
		if len(inner) > 0 && (fd.Message() == nil || fd.IsList() || fd.IsMap() || !inner.fits(fd.Message())) {
			return false
		}
	}
	return true
}

// trim clears what the mask does not name.
func (m mask) trim(msg protoreflect.Message) {
	msg.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		inner, named := m[fd.Name()]
		switch {
		case !named:
			msg.Clear(fd)
		case len(inner) > 0:
			inner.trim(v.Message())
		}
		return true
	})
}

// trimResource trims an element of a section. There a path may lead into the resource itself, which is an Any:
// resource=dynamic_active_clusters&mask=cluster.name. It returns false if the mask does not fit.
func (m mask) trimResource(msg protoreflect.Message) bool {
	outer := mask{}
	for name, inner := range m {
		fd := msg.Descriptor().Fields().ByName(name)
		if len(inner) == 0 || fd == nil || fd.IsList() || fd.Message() == nil || fd.Message().FullName() != anyName {
			outer[name] = inner
			continue
		}
		outer[name] = mask{}
		if a, ok := msg.Get(fd).Message().Interface().(*anypb.Any); ok && a.GetTypeUrl() != "" {
			resource, err := a.UnmarshalNew()
			if err != nil || !inner.fits(resource.ProtoReflect().Descriptor()) {
				return false
			}
			inner.trim(resource.ProtoReflect())
			trimmed, err := proto.Marshal(resource)
			if err != nil {
				return false
			}
			msg.Set(fd, protoreflect.ValueOfMessage((&anypb.Any{TypeUrl: a.GetTypeUrl(), Value: trimmed}).ProtoReflect()))
		}
	}
	if !outer.fits(msg.Descriptor()) {
		return false
	}
	outer.trim(msg)
	return true
}

const anyName = "google.protobuf.Any"
