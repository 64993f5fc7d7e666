package filter

import (
	"github.com/gowaypoint/gowaypoint/telemetry"

	"google.golang.org/protobuf/types/known/structpb"
)

// Metadata is dynamic metadata: a struct per namespace (the filter that wrote it). The zero value is empty.
type Metadata struct {
	byNamespace map[string]*structpb.Struct
}

// keptNamespaces is how many namespaces Reset keeps empty for the next request: as many as a chain has filters that write.
const keptNamespaces = 8

// Reset empties m. It keeps its memory for the next request, so structs that it has handed out are no longer valid.
func (m *Metadata) Reset() {
	if len(m.byNamespace) > keptNamespaces { // names that somebody else chose
		m.byNamespace = nil
		return
	}
	for _, s := range m.byNamespace {
		clear(s.Fields)
	}
}

// Set writes one value. It is not copied: it may be shared by many requests, and nobody may change it.
func (m *Metadata) Set(namespace, key string, value *structpb.Value) {
	m.Namespace(namespace).Fields[key] = value
}

// SetString writes one string.
func (m *Metadata) SetString(namespace, key, value string) {
	m.Set(namespace, key, structpb.NewStringValue(value))
}

// Struct returns what is in a namespace, nil if nothing is.
func (m *Metadata) Struct(namespace string) *structpb.Struct {
	if s := m.byNamespace[namespace]; s != nil && len(s.Fields) > 0 {
		return s
	}
	return nil
}

// Merge writes all fields of s.
func (m *Metadata) Merge(namespace string, s *structpb.Struct) {
	for k, v := range s.GetFields() {
		m.Namespace(namespace).Fields[k] = v
	}
}

// Namespace returns the struct of a namespace, making it if needed.
func (m *Metadata) Namespace(namespace string) *structpb.Struct {
	s := m.byNamespace[namespace]
	if s == nil {
		if m.byNamespace == nil {
			m.byNamespace = map[string]*structpb.Struct{}
		}
		s = &structpb.Struct{Fields: map[string]*structpb.Value{}}
		m.byNamespace[namespace] = s
	}
	return s
}

// Get walks path in a namespace; nil means absent. An empty path asks for the whole struct.
func (m *Metadata) Get(namespace string, path ...string) *structpb.Value {
	s := m.Struct(namespace)
	if s == nil {
		return nil
	}
	return Walk(s, path)
}

// Lookup implements telemetry.Metadata for the request's own metadata.
func (m *Metadata) Lookup(source telemetry.MetadataSource, namespace string, path []string) *structpb.Value {
	if source != telemetry.MetadataRequest {
		return nil
	}
	return m.Get(namespace, path...)
}

// Namespaces implements telemetry.MetadataNamespaces.
func (m *Metadata) Namespaces(yield func(namespace string, s *structpb.Struct) bool) {
	for name, s := range m.byNamespace {
		if len(s.Fields) > 0 && !yield(name, s) {
			return
		}
	}
}

// Walk follows path through nested structs; nil means absent.
func Walk(s *structpb.Struct, path []string) *structpb.Value {
	v := structpb.NewStructValue(s)
	for _, key := range path {
		st := v.GetStructValue()
		if st == nil {
			return nil
		}
		if v = st.Fields[key]; v == nil {
			return nil
		}
	}
	return v
}
