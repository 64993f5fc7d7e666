package route

import "google.golang.org/protobuf/types/known/structpb"

// MetadataMatch is a compiled MetadataMatcher over dynamic metadata.
type MetadataMatch struct {
	Namespace string
	Path      []string
	Invert    bool
	value     valueTest
}

func (m *MetadataMatch) match(r *Request) bool {
	var v *structpb.Value
	if r.Metadata != nil {
		v = r.Metadata(m.Namespace, m.Path)
	}
	return m.value(v) != m.Invert
}

// valueTest is a compiled ValueMatcher. It is given nil for what is absent; only a test for absence holds then.
type valueTest func(*structpb.Value) bool
