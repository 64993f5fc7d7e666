package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	matchersv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// Invalid is one reason why a resource is not accepted.
type Invalid struct {
	Field  string // path from the resource, in the names of the protobuf; may be empty
	Reason string
}

func (e *Invalid) Error() string {
	if e.Field == "" {
		return e.Reason
	}
	return e.Field + ": " + e.Reason
}

// Validate says what Envoy would not accept of a resource: broken extensions and regular expressions, values that the
// protobufs forbid, addresses and ports that are none, listeners without chains. What this proxy merely cannot do is not
// among it: that refuses the part that asks for it, because a NACK would keep the resource's good parts from coming into
// force, too. The error joins one *Invalid per field; [Problems] takes it apart.
func Validate(typeURL, name string, m proto.Message) error {
	v := &validator{}
	if m == nil {
		return &Invalid{Reason: "is empty"}
	}
	if own := ownName(m); own != name {
		v.add("", "is called %q in itself; a resource must have one name", own)
	}
	if want := newMessage(typeURL); want != nil && want.ProtoReflect().Descriptor() != m.ProtoReflect().Descriptor() {
		v.add("", "is a %s, not a %s", m.ProtoReflect().Descriptor().FullName(), typeName(typeURL))
	}
	switch x := m.(type) {
	case *listenerv3.Listener:
		v.listener(x)
	case *clusterv3.Cluster:
		v.cluster(x)
	case *endpointv3.ClusterLoadAssignment:
		v.assignment("", x, false)
	}
	v.rules("", m)
	v.walk("", m.ProtoReflect())
	return errors.Join(v.errs...)
}

// Problems takes the error of [Validate] apart.
func Problems(err error) []*Invalid {
	var one *Invalid
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*Invalid
		for _, e := range many.Unwrap() {
			out = append(out, Problems(e)...)
		}
		return out
	}
	if errors.As(err, &one) {
		return []*Invalid{one}
	}
	return nil
}

// ownName is the name that a resource carries in itself; an assignment carries that of its cluster.
func ownName(m proto.Message) string {
	fs := m.ProtoReflect().Descriptor().Fields()
	for _, n := range []protoreflect.Name{"name", "cluster_name"} {
		if fd := fs.ByName(n); fd != nil && fd.Kind() == protoreflect.StringKind {
			return m.ProtoReflect().Get(fd).String()
		}
	}
	return ""
}

type validator struct{ errs []error }

// maxProblems bounds the text of a NACK.
const maxProblems = 20

func (v *validator) add(field, format string, args ...any) {
	if len(v.errs) < maxProblems {
		v.errs = append(v.errs, &Invalid{field, fmt.Sprintf(format, args...)})
	}
}

func (v *validator) listener(l *listenerv3.Listener) {
	if l.GetName() == "" {
		v.add("name", "is empty")
	}
	if l.GetInternalListener() == nil {
		if l.GetAddress() == nil {
			v.add("address", "is missing; only an internal_listener has none")
		} else {
			v.address("address", l.GetAddress(), false)
		}
		for i, a := range l.GetAdditionalAddresses() {
			v.address(fmt.Sprintf("additional_addresses[%d].address", i), a.GetAddress(), false)
		}
	}
	if len(l.GetFilterChains()) == 0 && l.GetDefaultFilterChain() == nil {
		v.add("filter_chains", "there is none")
	}
	seen := map[string]bool{}
	for i, c := range l.GetFilterChains() {
		where := fmt.Sprintf("filter_chains[%d]", i)
		if len(c.GetFilters()) == 0 {
			v.add(where+".filters", "there is none")
		}
		if l.GetFilterChainMatcher() == nil {
			continue
		}
		switch {
		case c.GetName() == "":
			v.add(where+".name", "is empty; filter_chain_matcher could not choose it")
		case seen[c.GetName()]:
			v.add(where+".name", "%q is there twice", c.GetName())
		}
		seen[c.GetName()] = true
	}
}

func (v *validator) cluster(c *clusterv3.Cluster) {
	if c.GetName() == "" {
		v.add("name", "is empty")
	}
	original := c.GetType() == clusterv3.Cluster_ORIGINAL_DST && c.GetClusterType() == nil
	if provided := c.GetLbPolicy() == clusterv3.Cluster_CLUSTER_PROVIDED; original != provided && c.GetClusterType() == nil {
		v.add("lb_policy", "CLUSTER_PROVIDED goes with type ORIGINAL_DST and with no other")
	}
	if c.GetType() == clusterv3.Cluster_EDS && c.GetClusterType() == nil && c.GetEdsClusterConfig().GetEdsConfig() == nil {
		v.add("eds_cluster_config.eds_config", "is missing; type EDS needs it")
	}
	if original && c.GetLoadAssignment() != nil {
		v.add("load_assignment", "type ORIGINAL_DST has no endpoints")
	}
	if p := c.GetOriginalDstLbConfig().GetUpstreamPortOverride(); p.GetValue() > 65535 {
		v.add("original_dst_lb_config.upstream_port_override", "%d is not a port", p.GetValue())
	}
	if c.GetConnectTimeout() != nil && c.GetConnectTimeout().AsDuration() <= 0 {
		v.add("connect_timeout", "must be more than nothing")
	}
	names := c.GetType() == clusterv3.Cluster_STRICT_DNS || c.GetType() == clusterv3.Cluster_LOGICAL_DNS || c.GetClusterType() != nil
	if a := c.GetLoadAssignment(); a != nil {
		v.assignment("load_assignment.", a, names)
	}
}

func (v *validator) assignment(where string, a *endpointv3.ClusterLoadAssignment, names bool) {
	for i, loc := range a.GetEndpoints() {
		for k, ep := range loc.GetLbEndpoints() {
			field := fmt.Sprintf("%sendpoints[%d].lb_endpoints[%d].endpoint.address", where, i, k)
			if ep.GetEndpoint() != nil {
				v.address(field, ep.GetEndpoint().GetAddress(), names)
			}
		}
	}
}

func (v *validator) address(field string, a *corev3.Address, names bool) {
	s := a.GetSocketAddress()
	if s == nil {
		return
	}
	if s.GetPortValue() > 65535 {
		v.add(field+".socket_address.port_value", "%d is not a port", s.GetPortValue())
	}
	if _, err := netip.ParseAddr(s.GetAddress()); err != nil && !names && s.GetResolverName() == "" {
		v.add(field+".socket_address.address", "%q is not an IP address", s.GetAddress())
	}
}

// rules applies the rules that stand in the protobufs themselves.
func (v *validator) rules(where string, m proto.Message) {
	if x, ok := m.(interface{ ValidateAll() error }); ok {
		if err := x.ValidateAll(); err != nil {
			v.violations(where, err)
		}
	}
}

// violations turns the generated errors, which nest as the messages do, into paths.
func (v *validator) violations(where string, err error) {
	if many, ok := err.(interface{ AllErrors() []error }); ok {
		for _, e := range many.AllErrors() {
			v.violations(where, e)
		}
		return
	}
	e, ok := err.(interface {
		Field() string
		Reason() string
		Cause() error
	})
	if !ok {
		v.add(strings.TrimSuffix(where, "."), "%v", err)
		return
	}
	field := where + snake(e.Field())
	if e.Cause() != nil {
		v.violations(field+".", e.Cause())
		return
	}
	v.add(field, "%s", e.Reason())
}

// snake turns a Go field name into the protobuf's.
func snake(s string) string {
	var b strings.Builder
	inKey := false
	for i, r := range s {
		switch r {
		case '[':
			inKey = true
		case ']':
			inKey = false
		}
		if unicode.IsUpper(r) && !inKey {
			if i > 0 {
				b.WriteByte('_')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

// walk looks at every extension and every regular expression.
func (v *validator) walk(where string, m protoreflect.Message) {
	switch x := m.Interface().(type) {
	case *anypb.Any:
		e, err := decodeAny(x)
		if err != nil {
			v.add(strings.TrimSuffix(where, "."), "%v", err)
			return
		}
		if e.Message != nil {
			v.rules(where, e.Message)
			v.walk(where, e.Message.ProtoReflect())
		}
		return
	case *matchersv3.RegexMatcher:
		if _, err := regexp.Compile(x.GetRegex()); err != nil {
			v.add(where+"regex", "%v", err)
		}
		return
	}
	if m.Descriptor().ParentFile().Package() == "google.protobuf" {
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, x protoreflect.Value) bool {
		name := where + string(fd.Name())
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() == nil {
				return true
			}
			x.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool {
				v.walk(fmt.Sprintf("%s[%s].", name, k), e.Message())
				return true
			})
		case fd.Message() == nil:
		case fd.IsList():
			for i := range x.List().Len() {
				v.walk(fmt.Sprintf("%s[%d].", name, i), x.List().Get(i).Message())
			}
		default:
			v.walk(name+".", x.Message())
		}
		return true
	})
}
