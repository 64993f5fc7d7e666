package manifest

import (
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// message reads a protobuf message from its JSON form. Names are those of the JSON form alone, as the API server has them, or
// with both also those of the proto file, as Istio reads MeshConfig.
func (p *problems) message(path string, n *node, into proto.Message, both bool) {
	if n == nil || n.kind == isNull {
		return
	}
	before := len(p.list)
	p.checkMessage(path, n, into.ProtoReflect().Descriptor(), both)
	if len(p.list) > before {
		return
	}
	if err := protojson.Unmarshal(n.json(), into); err != nil {
		p.at(path, "%s", protoError(err))
	}
}

var protoPosition = regexp.MustCompile(`^proto:[\s\x{a0}]*(syntax error )?(\(line \d+:\d+\): )?`)

// protoError is the text of an error of protojson without its position, which is in a text that nobody has seen.
func protoError(err error) string {
	return strings.ReplaceAll(protoPosition.ReplaceAllString(err.Error(), ""), "\u00a0", " ")
}

// checkMessage finds what protojson would refuse, by path, and all of it.
func (p *problems) checkMessage(path string, n *node, m protoreflect.MessageDescriptor, both bool) {
	if isWellKnown(m) || n.kind == isNull {
		return
	}
	if !p.wants(path, n, isObject) {
		return
	}
	for _, member := range n.members {
		at := strings.TrimPrefix(path+"."+member.name, ".")
		f := m.Fields().ByJSONName(member.name)
		if f == nil && both {
			f = m.Fields().ByName(protoreflect.Name(member.name))
		}
		if f == nil {
			var known []string
			for i := range m.Fields().Len() {
				known = append(known, m.Fields().Get(i).JSONName())
			}
			p.unknown(at, member.name, known)
			continue
		}
		p.checkField(at, member.value, f, both)
	}
}

func (p *problems) checkField(path string, n *node, f protoreflect.FieldDescriptor, both bool) {
	switch {
	case n.kind == isNull:
	case f.IsMap():
		if p.wants(path, n, isObject) {
			for _, m := range n.members {
				p.checkValue(path+"["+m.name+"]", m.value, f.MapValue(), both)
			}
		}
	case f.IsList():
		if p.wants(path, n, isList) {
			for i, item := range n.items {
				p.checkValue(fmt.Sprintf("%s[%d]", path, i), item, f, both)
			}
		}
	default:
		p.checkValue(path, n, f, both)
	}
}

func (p *problems) checkValue(path string, n *node, f protoreflect.FieldDescriptor, both bool) {
	switch f.Kind() {
	case protoreflect.MessageKind:
		p.checkMessage(path, n, f.Message(), both)
	case protoreflect.StringKind:
		p.wantsText(path, n)
	case protoreflect.BoolKind:
		p.wants(path, n, isBool)
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		if n.kind == isNumber {
			return // protojson takes it, and so does the API server where the schema allows integers
		}
		if !p.wantsText(path, n) || values.ByName(protoreflect.Name(n.text)) != nil {
			return
		}
		var known []string
		for i := range values.Len() {
			known = append(known, string(values.Get(i).Name()))
		}
		p.at(path, "%q is none of %s", n.text, strings.Join(known, ", "))
	}
}

// isWellKnown is for messages with a JSON form of their own, such as durations and structs.
func isWellKnown(m protoreflect.MessageDescriptor) bool {
	return m.FullName().Parent() == "google.protobuf"
}
