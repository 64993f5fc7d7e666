package cel

import (
	"github.com/google/cel-go/interpreter"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// activation gives an expression its variables: one record. The values that it gives out are only valid while the expression runs.
type activation struct {
	env *Env
	r   *telemetry.Record
}

// attributes finds the attributes of a variable that is a map with fixed names; nil for any other name.
func attributes(variable string) attribute {
	switch variable {
	case "request":
		return requestAttribute
	case "response":
		return responseAttribute
	case "connection":
		return connectionAttribute
	case "upstream":
		return upstreamAttribute
	case "source":
		return sourceAttribute
	case "destination":
		return destinationAttribute
	case "xds":
		return xdsAttribute
	}
	return nil
}

// isVariable tells whether there is a variable of that name. A peer may be absent all the same.
func isVariable(name string) bool {
	switch name {
	case "metadata", "filter_state", "upstream_filter_state", "node", "downstream_peer", "upstream_peer":
		return true
	}
	return attributes(name) != nil
}

// ResolveName implements interpreter.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case "metadata":
		return mapping{metadataMap{a.r, telemetry.MetadataRequest}}, true
	case "filter_state", "upstream_filter_state":
		// Of the upstream's filter state only the peers are known, and these are in the record.
		return mapping{stateMap{a.r}}, true
	case "node":
		return a.env.nodeVal, true
	case "downstream_peer", "upstream_peer":
		if p, _ := a.r.StatePeer(name); p != nil {
			return mapping{peerMap{p}}, true
		}
		return nil, false
	}
	if get := attributes(name); get != nil {
		return mapping{group{a, get}}, true
	}
	return nil, false
}

// Parent implements interpreter.Activation.
func (a *activation) Parent() interpreter.Activation { return nil }
