package route

import (
	"github.com/gowaypoint/gowaypoint/waypoint/message"

	"google.golang.org/protobuf/types/known/structpb"
)

// Request is what routes match on.
type Request struct {
	Head *message.Head
	// Metadata reads the request's dynamic metadata (JWT claims); nil: there is none.
	Metadata func(namespace string, path []string) *structpb.Value
}
