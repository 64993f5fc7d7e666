package config

import (
	"cmp"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

// EDSNames returns, sorted, the assignments that the clusters of the last Compile wait for or use.
func (c *Compiler) EDSNames() []string {
	set := map[string]bool{}
	for _, st := range c.clusters {
		if st.base.edsName != "" {
			set[st.base.edsName] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// SecretNames returns, sorted, the secrets that the TLS contexts of the last Compile name.
func (c *Compiler) SecretNames() []Secret {
	set := map[Secret]bool{}
	for _, ls := range c.listeners {
		for _, s := range ls.secrets {
			set[s] = true
		}
	}
	for _, st := range c.clusters {
		for _, s := range st.base.secrets {
			set[s] = true
		}
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b Secret) int { return cmp.Compare(a.Name, b.Name) })
}

// ECDSNames returns, sorted, the extension configs that the chains of the last Compile take from ECDS.
func (c *Compiler) ECDSNames() []string { return c.depNames(TypeExtension) }

// RDSNames returns, sorted, the route configurations that are asked for by name. istiod's are inline: mostly there are none.
func (c *Compiler) RDSNames() []string { return c.depNames(TypeRoute) }

func (c *Compiler) depNames(typeURL string) []string {
	set := map[string]bool{}
	for _, ls := range c.listeners {
		for _, ch := range ls.chains {
			for _, d := range ch.deps {
				if d.typeURL == typeURL {
					set[d.name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// nameField is the number of FilterChain.name.
var nameField = (&listenerv3.FilterChain{}).ProtoReflect().Descriptor().Fields().ByName("name").Number()

// chainName reads the name of a serialised chain.
func chainName(raw []byte) string {
	name := ""
	for b := raw; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return name
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return name
		}
		if num == nameField && typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b[n:])
			name = string(v)
		}
		b = b[n+m:]
	}
	return name
}

// emptyMessage tells whether nothing is set in m.
func emptyMessage(m proto.Message) bool { return proto.Size(m) == 0 }
