package cel

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// finder is a map that computes what it is asked for. The types below are one each.
type finder interface {
	find(key string) ref.Val // nil: not there
	keys() []string          // what comprehensions go through; as in Envoy there are none where names are fixed
}

// mapping makes a CEL map of a finder.
type mapping struct{ finder }

func (m mapping) Find(key ref.Val) (ref.Val, bool) {
	k, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	v := m.find(string(k))
	return v, v != nil
}

func (m mapping) Get(key ref.Val) ref.Val {
	if v, ok := m.Find(key); ok {
		return v
	}
	return types.NewErr("no such key: %v", key)
}

func (m mapping) Contains(key ref.Val) ref.Val {
	_, ok := m.Find(key)
	return types.Bool(ok)
}

func (m mapping) Size() ref.Val { return types.Int(len(m.keys())) }

func (m mapping) Iterator() traits.Iterator {
	return types.DefaultTypeAdapter.NativeToValue(m.keys()).(traits.Iterable).Iterator()
}

func (m mapping) ConvertToNative(reflect.Type) (any, error) {
	return nil, errors.New("attributes have no Go form")
}

func (m mapping) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.MapType:
		return m
	case types.TypeType:
		return types.MapType
	}
	return types.NewErr("type conversion error from map to %s", t.TypeName())
}

func (m mapping) Equal(ref.Val) ref.Val { return types.False } // Envoy's maps of attributes are not compared either
func (m mapping) Type() ref.Type        { return types.MapType }
func (m mapping) Value() any            { return m }

// group is request, response, …
type group struct {
	in  *activation
	get attribute
}

func (g group) find(key string) ref.Val {
	v, _ := g.get(g.in, key)
	return v
}

func (g group) keys() []string { return nil }

// headers is a header block.
type headers struct {
	lines telemetry.Headers
	get   func(name string) (string, bool)
}

func (h *headers) find(key string) ref.Val {
	v, ok := h.get(strings.ToLower(key))
	if !ok {
		return nil
	}
	return types.String(v)
}

func (h *headers) keys() []string {
	lines, ok := h.lines.(telemetry.HeaderLines)
	if !ok {
		return nil
	}
	var out []string
	for name := range lines.Lines {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// metadataMap is an envoy.config.core.v3.Metadata.
type metadataMap struct {
	r      *telemetry.Record
	source telemetry.MetadataSource
}

func (m metadataMap) find(key string) ref.Val {
	switch key {
	case "filter_metadata":
		return mapping{namespaces(m)}
	case "typed_filter_metadata":
		return mapping{object{}}
	}
	return nil
}

func (m metadataMap) keys() []string { return nil }

// namespaces are the structs of a Metadata.
type namespaces metadataMap

func (n namespaces) find(key string) ref.Val {
	if n.r.Metadata == nil {
		return nil
	}
	v := n.r.Metadata.Lookup(n.source, key, nil)
	if v == nil {
		return nil
	}
	return types.DefaultTypeAdapter.NativeToValue(v)
}

func (n namespaces) keys() []string { return nil }

// stateMap is the filter state: the peers as structs, anything else as bytes.
type stateMap struct{ r *telemetry.Record }

func (s stateMap) find(key string) ref.Val {
	if p, isPeer := s.r.StatePeer(key); isPeer {
		if p == nil {
			return nil
		}
		return mapping{peerMap{p}}
	}
	v, ok := s.r.StateText(key)
	if !ok {
		return nil
	}
	return types.Bytes(v)
}

func (s stateMap) keys() []string { return nil }

// peerMap is a workload.
type peerMap struct{ p *telemetry.Peer }

func (m peerMap) find(key string) ref.Val {
	if key == "labels" {
		return mapping{labels(m)}
	}
	get, ok := telemetry.PeerFieldGetter(key)
	if !ok {
		return nil
	}
	if v := get(m.p); v != "" {
		return types.String(v)
	}
	return nil
}

func (m peerMap) keys() []string { return nil }

// labels are the labels of a workload, as far as they are known.
type labels peerMap

func (l labels) find(key string) ref.Val {
	v := ""
	switch key {
	case "app", "app.kubernetes.io/name":
		v = l.p.App
	case "version", "app.kubernetes.io/version":
		v = l.p.Version
	case "service.istio.io/canonical-name":
		v = l.p.CanonicalService
	case "service.istio.io/canonical-revision":
		v = l.p.CanonicalRevision
	}
	if v == "" {
		return nil
	}
	return label{types.String(v)}
}

func (l labels) keys() []string { return nil }

// label is a label's value. Up to Istio 1.24 labels were key-value objects, and dashboards' expressions say labels['app'].value.
type label struct{ types.String }

// Get implements traits.Indexer, for ".value".
func (l label) Get(key ref.Val) ref.Val {
	if key == types.String("value") {
		return l.String
	}
	return types.NewErr("no such key: %v", key)
}

// object is a map whose values are known, such as a message of which nobody asks more than its fields.
type object map[string]ref.Val

func (o object) find(key string) ref.Val { return o[key] }

func (o object) keys() []string { return slices.Sorted(maps.Keys(o)) }

// nodeObject is an envoy.config.core.v3.Node. A field that is not set has its type's zero value, as in a message.
func nodeObject(n *corev3.Node) mapping {
	a := types.DefaultTypeAdapter
	return mapping{object{
		"id": types.String(n.GetId()), "cluster": types.String(n.GetCluster()),
		"metadata":        a.NativeToValue(orEmpty(n.GetMetadata())),
		"locality":        localityObject(n.GetLocality().GetRegion(), n.GetLocality().GetZone(), n.GetLocality().GetSubZone()),
		"user_agent_name": types.String(n.GetUserAgentName()), "user_agent_version": types.String(n.GetUserAgentVersion()),
		"client_features": a.NativeToValue(n.GetClientFeatures()),
	}}
}

func orEmpty(s *structpb.Struct) *structpb.Struct {
	if s == nil {
		return &structpb.Struct{}
	}
	return s
}

func localityObject(region, zone, sub string) mapping {
	return mapping{object{"region": types.String(region), "zone": types.String(zone), "sub_zone": types.String(sub)}}
}
