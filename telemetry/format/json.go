package format

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// JSON is a compiled json_format: a tree of constants and formats. Immutable, usable by any number of goroutines.
type JSON struct {
	root      *object
	omitEmpty bool
}

// CompileJSON translates a json_format. Errors name the key and the operator.
func CompileJSON(s *structpb.Struct, o Options) (*JSON, error) {
	root, err := compileObject(s, o)
	if err != nil {
		return nil, err
	}
	return &JSON{root: root, omitEmpty: o.OmitEmpty}, nil
}

// Append adds the object, without a line end. With OmitEmpty, keys whose value is absent, and objects that become empty by
// that, are left out; the outermost object is always there.
func (j *JSON) Append(dst []byte, r *telemetry.Record) []byte {
	out, ok := j.root.append(dst, r, j.omitEmpty)
	if !ok {
		return append(dst, "{}"...)
	}
	return out
}

// node is a value in the tree. append adds it as JSON; present is false when it is absent and may be left out.
type node interface {
	append(dst []byte, r *telemetry.Record, omit bool) (out []byte, present bool)
}

type object struct{ fields []field }

type field struct {
	key   string // quoted, with the colon
	value node
}

type list struct{ values []node }

type constantNode string

type formatNode struct{ f *Format }

func (c constantNode) append(dst []byte, _ *telemetry.Record, _ bool) ([]byte, bool) {
	return append(dst, c...), c != "null"
}

func (n formatNode) append(dst []byte, r *telemetry.Record, _ bool) ([]byte, bool) {
	return n.f.appendJSON(dst, r)
}

func (o *object) append(dst []byte, r *telemetry.Record, omit bool) ([]byte, bool) {
	dst = append(dst, '{')
	empty := true
	for i := range o.fields {
		start := len(dst)
		if !empty {
			dst = append(dst, ',')
		}
		dst = append(dst, o.fields[i].key...)
		var present bool
		if dst, present = o.fields[i].value.append(dst, r, omit); omit && !present {
			dst = dst[:start]
			continue
		}
		empty = false
	}
	return append(dst, '}'), !empty
}

func (l *list) append(dst []byte, r *telemetry.Record, omit bool) ([]byte, bool) {
	dst = append(dst, '[')
	empty := true
	for _, v := range l.values {
		start := len(dst)
		if !empty {
			dst = append(dst, ',')
		}
		var present bool
		if dst, present = v.append(dst, r, omit); omit && !present {
			dst = dst[:start]
			continue
		}
		empty = false
	}
	return append(dst, ']'), true
}

func compileObject(s *structpb.Struct, o Options) (*object, error) {
	out := &object{}
	for _, key := range slices.Sorted(maps.Keys(s.GetFields())) {
		v, err := compileValue(s.GetFields()[key], o)
		if err != nil {
			return nil, fmt.Errorf("json_format key %q: %w", key, err)
		}
		quoted := append(escape(append([]byte{'"'}, key...), 1), '"', ':')
		out.fields = append(out.fields, field{string(quoted), v})
	}
	return out, nil
}

func compileValue(v *structpb.Value, o Options) (node, error) {
	switch v := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		if !strings.Contains(v.StringValue, "%") {
			return constantNode(append(escape(append([]byte{'"'}, v.StringValue...), 1), '"')), nil
		}
		f, err := Compile(v.StringValue, o)
		if err != nil {
			return nil, err
		}
		return formatNode{f}, nil
	case *structpb.Value_NumberValue:
		b, err := json.Marshal(v.NumberValue)
		if err != nil {
			return nil, err
		}
		return constantNode(b), nil
	case *structpb.Value_BoolValue:
		if v.BoolValue {
			return constantNode("true"), nil
		}
		return constantNode("false"), nil
	case *structpb.Value_StructValue:
		return compileObject(v.StructValue, o)
	case *structpb.Value_ListValue:
		l := &list{}
		for _, e := range v.ListValue.GetValues() {
			n, err := compileValue(e, o)
			if err != nil {
				return nil, err
			}
			l.values = append(l.values, n)
		}
		return l, nil
	}
	return constantNode("null"), nil
}

const hexDigits = "0123456789abcdef"

// escape makes dst[start:] the inside of a JSON string, in place. Nearly always there is nothing to do. Bytes that are not
// UTF-8 become U+FFFD: a client must not be able to make a log line that is no JSON.
func escape(dst []byte, start int) []byte {
	clean := true
	for _, c := range dst[start:] {
		if c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return dst
	}
	end := len(dst)
	for i := start; i < end; {
		c := dst[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < 0x20 || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRune(dst[i:end])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		i++
	}
	n := copy(dst[start:], dst[end:])
	return dst[:start+n]
}
