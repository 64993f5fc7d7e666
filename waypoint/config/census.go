package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

// census counts the fields that are set. It remembers which rule belongs to which field; it is for one goroutine.
type census struct {
	table *table
	// byField and byPath hold the rules found so far; a field without a line gets one made up.
	byField map[protoreflect.FieldDescriptor]*rule
	byPath  map[string]*rule
}

// newCensus panics if fields.txt is broken: it is part of the program, and a test reads it.
func newCensus() *census {
	t, err := fields()
	if err != nil {
		panic(err)
	}
	return &census{table: t, byField: map[protoreflect.FieldDescriptor]*rule{}, byPath: map[string]*rule{}}
}

// tally is the census of one part of the configuration. It is immutable once taken.
type tally struct {
	counts [len(classNames)]int
	// found holds what is not honoured, in no order.
	found []finding
}

// finding is a field that is not honoured: how often, and one value that it has.
type finding struct {
	*rule
	count   int
	example string
}

// refused is the error that joins the refused fields, without those that somebody else refuses; nil if there is none.
func (t *tally) refused() error {
	var errs []error
	for _, f := range t.found {
		if f.class == Refused && !f.elsewhere {
			errs = append(errs, fmt.Errorf("field %s: %s", f.path, f.why))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// take counts what is set in messages, which d has decoded before where it could.
func (c *census) take(d *decoder, ms ...proto.Message) *tally {
	w := walker{census: c, d: d, found: map[*rule]*finding{}}
	for _, m := range ms {
		w.message(m.ProtoReflect())
	}
	t := &tally{counts: w.counts}
	for _, r := range slices.SortedFunc(maps.Keys(w.found), func(a, b *rule) int { return cmp.Compare(a.path, b.path) }) {
		t.found = append(t.found, *w.found[r])
	}
	return t
}

// walker is one pass.
type walker struct {
	*census
	d      *decoder
	counts [len(classNames)]int
	found  map[*rule]*finding
}

func (w *walker) count(r *rule, example func() string) {
	w.counts[r.class]++
	if r.class == Honoured {
		return
	}
	f := w.found[r]
	if f == nil {
		f = &finding{rule: r, example: example()}
		w.found[r] = f
	}
	f.count++
}

// rule finds the rule of a field.
func (c *census) rule(fd protoreflect.FieldDescriptor) *rule {
	if r := c.byField[fd]; r != nil {
		return r
	}
	// Not fd.FullName(): that of an extension field does not name the message.
	path := string(fd.ContainingMessage().FullName()) + "." + string(fd.Name())
	r := c.path(path, fd.ContainingMessage().FullName())
	c.byField[fd] = r
	return r
}

func (c *census) path(path string, message protoreflect.FullName) *rule {
	if r := c.table.rules[path]; r != nil {
		return r
	}
	r := c.byPath[path]
	if r == nil {
		r = c.table.unlisted(message, path)
		c.byPath[path] = r
	}
	return r
}

func (w *walker) message(m protoreflect.Message) {
	name := m.Descriptor().FullName()
	switch x := m.Interface().(type) {
	case *anypb.Any:
		w.any(x)
		return
	case *structpb.Struct, *structpb.Value, *structpb.ListValue:
		return
	}
	if m.Descriptor().ParentFile().Package() == "google.protobuf" {
		return // Duration, wrappers and the like are values
	}
	if u := m.GetUnknown(); len(u) > 0 {
		w.count(w.path(string(name)+".(fields of a newer API)", name), func() string { return fmt.Sprintf("%d bytes", len(u)) })
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		r := w.rule(fd)
		if len(r.values) > 0 {
			value := scalar(fd, v)
			if fd.IsList() {
				value = variant(m.Interface())
			}
			if x := r.values[value]; x != nil {
				r = x
			}
		}
		w.count(r, func() string { return example(fd, v) })
		if r.class == Honoured && !r.whole {
			w.below(fd, v)
		}
		return true
	})
}

// below goes on into messages.
func (w *walker) below(fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case fd.IsMap():
		if fd.MapValue().Message() != nil {
			v.Map().Range(func(_ protoreflect.MapKey, x protoreflect.Value) bool { w.message(x.Message()); return true })
		}
	case fd.Message() == nil:
	case fd.IsList():
		for i := range v.List().Len() {
			w.message(v.List().Get(i).Message())
		}
	default:
		w.message(v.Message())
	}
}

// any goes on into an extension. One that is not linked in counts by its type.
func (w *walker) any(a *anypb.Any) {
	e, err := w.d.any(a)
	if err != nil { // whoever compiles it says what is wrong
		return
	}
	if r := w.table.types[e.Type]; r != nil {
		w.count(r, func() string { return "{…}" })
		return
	}
	if s, ok := e.Message.(*structpb.Struct); ok && e.Type != "google.protobuf.Struct" {
		for key, v := range s.GetFields() {
			w.count(w.path("struct:"+e.Type+"."+key, protoreflect.FullName(e.Type)), func() string { return v.String() })
		}
		return
	}
	if e.Message == nil {
		w.count(w.path(e.Type, protoreflect.FullName(e.Type)), func() string { return "" })
		return
	}
	w.message(e.Message.ProtoReflect())
}

// perConnection is how fields.txt writes a list of headers of which one has a value that belongs to the connection.
const perConnection = "(per connection)"

// variant tells apart what fields.txt treats differently though it is no single value; "" for the ordinary.
func variant(m proto.Message) string {
	t, ok := m.(*tcpv3.TcpProxy_TunnelingConfig)
	if !ok {
		return ""
	}
	for _, h := range t.GetHeadersToAdd() {
		f, err := parseFormula(h.GetHeader().GetValue())
		if err == nil && f.perConnection() { // an error refuses the listener by itself
			return perConnection
		}
	}
	return ""
}

// scalar renders a value as fields.txt writes it; "" if it is none.
func scalar(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if fd.IsList() || fd.IsMap() {
		return ""
	}
	switch fd.Kind() {
	case protoreflect.EnumKind:
		if ev := fd.Enum().Values().ByNumber(v.Enum()); ev != nil {
			return string(ev.Name())
		}
		return strconv.Itoa(int(v.Enum()))
	case protoreflect.MessageKind, protoreflect.GroupKind:
		m := v.Message()
		if d, ok := m.Interface().(*durationpb.Duration); ok {
			return d.AsDuration().String()
		}
		if fd.Message().ParentFile().Package() == "google.protobuf" {
			if x := m.Descriptor().Fields().ByName("value"); x != nil && x.Message() == nil && x.Kind() != protoreflect.BytesKind {
				return m.Get(x).String()
			}
		}
		return ""
	case protoreflect.BytesKind:
		return ""
	default:
		return v.String()
	}
}

// maxExample bounds the example value of a report.
const maxExample = 60

// example renders a value for the report. Texts of messages that may carry secrets (TLS material, Wasm environments, data
// sources, headers that are added) are not shown.
func example(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if fd.Kind() == protoreflect.StringKind || fd.Kind() == protoreflect.BytesKind {
		m := strings.ToLower(string(fd.ContainingMessage().FullName()))
		for _, s := range []string{"tls", "secret", "wasm", "datasource", "header", "credential", "password"} {
			if strings.Contains(m, s) {
				return "…"
			}
		}
	}
	s := scalar(fd, v)
	if s == "" {
		switch {
		case fd.IsMap():
			return fmt.Sprintf("%d entries", v.Map().Len())
		case fd.IsList():
			return fmt.Sprintf("%d entries", v.List().Len())
		}
		return "{…}"
	}
	if len(s) > maxExample {
		s = s[:maxExample] + "…"
	}
	return s
}
