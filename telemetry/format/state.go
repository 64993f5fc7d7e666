package format

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

var metadataSources = map[string]telemetry.MetadataSource{
	"DYNAMIC":               telemetry.MetadataRequest,
	"ROUTE":                 telemetry.MetadataRoute,
	"CLUSTER":               telemetry.MetadataCluster,
	"UPSTREAM_HOST":         telemetry.MetadataUpstreamHost,
	"LISTENER":              telemetry.MetadataListener,
	"LISTENER_FILTER_CHAIN": telemetry.MetadataListenerFilterChain,
	"VIRTUAL_HOST":          telemetry.MetadataVirtualHost,
}

// anyMetadataOperator is %METADATA(SOURCE:namespace:key…)%.
func anyMetadataOperator(p part, o Options) (operator, error) {
	name, rest, _ := strings.Cut(p.arg, ":")
	source, ok := metadataSources[name]
	if !ok {
		return nil, fmt.Errorf("metadata type %q is not known", name)
	}
	if source == telemetry.MetadataListener || source == telemetry.MetadataListenerFilterChain {
		if o.Report == nil {
			return nil, fmt.Errorf("metadata of type %s is not kept", name)
		}
		o.Report("%METADATA(" + p.arg + ")%: metadata of type " + name + " is not kept, so it prints nothing")
	}
	return metadataOperator(source, rest)
}

// metadataOperator prints a value of Envoy metadata: text as it is, anything else as JSON.
func metadataOperator(source telemetry.MetadataSource, arg string) (operator, error) {
	path := strings.Split(arg, ":")
	if path[0] == "" {
		return nil, errors.New("needs a metadata namespace in parentheses")
	}
	namespace, path := path[0], path[1:]
	return func(dst []byte, r *record) ([]byte, kind) {
		if r.Metadata == nil {
			return dst, absent
		}
		return appendValue(dst, r.Metadata.Lookup(source, namespace, path))
	}, nil
}

func appendValue(dst []byte, v *structpb.Value) ([]byte, kind) {
	switch v := v.GetKind().(type) {
	case nil, *structpb.Value_NullValue:
		return dst, absent
	case *structpb.Value_StringValue:
		return append(dst, v.StringValue...), text
	}
	// Not a hot path: structs in logs are rare. A struct that cannot be marshalled (NaN, bad UTF-8) is absent, as in Envoy.
	out, err := v.MarshalJSON()
	if err != nil {
		return dst, absent
	}
	return append(dst, compact(out)...), literal
}

// compact removes the random blanks that protojson puts between tokens on purpose.
func compact(b []byte) []byte {
	out, quoted := b[:0], false
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case quoted && c == '\\':
			out = append(out, c, b[i+1])
			i++
			continue
		case c == '"':
			quoted = !quoted
		case c == ' ' && !quoted:
			continue
		}
		out = append(out, c)
	}
	return out
}

// filterStateOperator is %FILTER_STATE(key:PLAIN|TYPED|FIELD:name)%; without a form it is TYPED. The peers are taken from
// the record itself; anything else from its FilterState.
func filterStateOperator(p part, _ Options) (operator, error) {
	f := strings.SplitN(p.arg, ":", 3)
	key, form, field := f[0], "TYPED", ""
	if key == "" {
		return nil, errors.New("needs a filter state key in parentheses")
	}
	if len(f) > 1 {
		form = f[1]
	}
	if len(f) > 2 {
		field = f[2]
	}
	switch form {
	case "PLAIN", "TYPED":
		if field != "" {
			return nil, fmt.Errorf("argument %q: %s takes no field", p.arg, form)
		}
	case "FIELD":
		if field == "" {
			return nil, fmt.Errorf("argument %q: FIELD needs the name of a field", p.arg)
		}
	default:
		return nil, fmt.Errorf("argument %q: wanted PLAIN, TYPED or FIELD:name", p.arg)
	}
	if _, isPeer := (&record{}).StatePeer(key); isPeer {
		return peerOperator(func(r *record) *telemetry.Peer { p, _ := r.StatePeer(key); return p }, form, field)
	}
	return func(dst []byte, r *record) ([]byte, kind) {
		v, ok := "", false
		switch form {
		case "FIELD":
			v, ok = r.StateField(key, field)
		default:
			v, ok = r.StateText(key)
		}
		if !ok || form == "TYPED" && telemetry.StateIsAddress(key) {
			return dst, absent
		}
		if form == "TYPED" {
			// Text objects serialise as a protobuf StringValue, whose JSON is a quoted string.
			dst = append(dst, '"')
			start := len(dst)
			return append(escape(append(dst, v...), start), '"'), literal
		}
		return append(dst, v...), text
	}, nil
}

func peerOperator(peer func(*record) *telemetry.Peer, form, field string) (operator, error) {
	switch form {
	case "FIELD":
		getField, ok := telemetry.PeerFieldGetter(field)
		if !ok {
			return nil, fmt.Errorf("a peer has no field %q", field)
		}
		return str(func(r *record) string {
			if p := peer(r); p != nil {
				return getField(p)
			}
			return ""
		}), nil
	case "PLAIN":
		return func(dst []byte, r *record) ([]byte, kind) {
			if p := peer(r); p != nil {
				return p.AppendText(dst), text
			}
			return dst, absent
		}, nil
	}
	return func(dst []byte, r *record) ([]byte, kind) {
		p := peer(r)
		if p == nil {
			return dst, absent
		}
		out, err := protojson.Marshal(p.Struct())
		if err != nil {
			return dst, absent
		}
		return append(dst, compact(out)...), literal
	}, nil
}
