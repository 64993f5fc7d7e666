package istio

// Version is the line of istiod whose output is made. The zero value is the newest that is known.
type Version uint8

// The lines of istiod.
const (
	Newest Version = iota
)
