package admin

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// indent is what a level of Envoy's JSON is indented by.
const indent = " "

// toJSON renders a message in proto-JSON with the names of the protos, which Kiali reads. Messages of unknown types in Anys are
// described instead of shown ([resolver]). Where one that is known does not decode, less and less is decoded until it works: one
// broken extension must not cost the dump.
func toJSON(m proto.Message) (b []byte, err error) {
	for _, depth := range depths {
		b, err = protojson.MarshalOptions{UseProtoNames: true, AllowPartial: true, Resolver: depth}.Marshal(m)
		if err == nil {
			break
		}
	}
	return b, err
}

// writeJSON answers with a message, fields with default values included, since scripts read them ("state": "LIVE").
func (s *Server) writeJSON(w http.ResponseWriter, m proto.Message) {
	b, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true, Resolver: resolver{}}.Marshal(m)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var out bytes.Buffer
	_ = json.Indent(&out, b, "", indent) // what protojson wrote is JSON
	out.WriteByte('\n')
	w.Header().Set("Content-Type", jsonText)
	_, _ = w.Write(out.Bytes())
}

// writeDump writes an envoy.admin.v3.ConfigDump. It is written element by element, because with ten thousand services the whole of
// it is hundreds of megabytes.
func writeDump(w io.Writer, configs []proto.Message) error {
	d := &dumpWriter{w: w}
	d.text("{\n \"configs\": [")
	for i, c := range configs {
		d.comma(i)
		d.config(c.ProtoReflect())
	}
	d.text("\n ]\n}\n")
	return d.err
}

// dumpWriter keeps the first error.
type dumpWriter struct {
	w   io.Writer
	buf bytes.Buffer
	err error
}

func (d *dumpWriter) text(s string) {
	if d.err == nil {
		_, d.err = io.WriteString(d.w, s)
	}
}

func (d *dumpWriter) comma(i int) {
	if i > 0 {
		d.text(",")
	}
}

// value writes JSON at a depth.
func (d *dumpWriter) value(b []byte, prefix string) {
	d.buf.Reset()
	if err := json.Indent(&d.buf, b, prefix, indent); err != nil && d.err == nil {
		d.err = err
	}
	d.text(d.buf.String())
}

// config writes a message as an Any, field by field in the order of the proto.
func (d *dumpWriter) config(m protoreflect.Message) {
	d.text("\n  {\n   \"@type\": \"" + typePrefix + string(m.Descriptor().FullName()) + "\"")
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) {
			continue
		}
		d.text(",\n   \"" + string(fd.Name()) + "\": ")
		if fd.IsList() && fd.Message() != nil {
			d.list(m.Get(fd).List())
		} else {
			d.single(m, fd)
		}
	}
	d.text("\n  }")
}

func (d *dumpWriter) list(l protoreflect.List) {
	d.text("[")
	for i := range l.Len() {
		d.comma(i)
		d.text("\n    ")
		b, err := toJSON(l.Get(i).Message().Interface())
		if err != nil && d.err == nil {
			d.err = err
		}
		d.value(b, "    ")
	}
	d.text("\n   ]")
}

// single writes a field by way of a message that has nothing else.
func (d *dumpWriter) single(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	only := m.New()
	only.Set(fd, m.Get(fd))
	b, err := toJSON(only.Interface())
	var fields map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(b, &fields)
	}
	if err != nil {
		if d.err == nil {
			d.err = err
		}
		return
	}
	d.value(fields[string(fd.Name())], "   ")
}

const typePrefix = "type.googleapis.com/"
