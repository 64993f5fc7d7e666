package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
)

// isMeshConfig tells a document that is MeshConfig, or Helm values with one, by its keys.
func isMeshConfig(n *node) bool {
	if n.get("meshConfig") != nil {
		return true
	}
	fields := (&meshconfig.MeshConfig{}).ProtoReflect().Descriptor().Fields()
	return slices.ContainsFunc(n.members, func(m member) bool {
		return fields.ByJSONName(m.name) != nil || fields.ByName(protoreflect.Name(m.name)) != nil
	})
}

// configMap reads MeshConfig out of istiod's ConfigMap: istio, or istio-<revision>.
func (r *reader) configMap(o *object) {
	mesh := o.node.get("data").get("mesh")
	if name := o.Metadata.Name; name != "istio" && !strings.HasPrefix(name, "istio-") || mesh == nil || mesh.kind != isText {
		r.ignore(o.at, o.String(), "has no MeshConfig")
		return
	}
	first := mesh.line
	if !mesh.block {
		first-- // the text begins on the line of the key
	}
	inner := &problems{}
	p := parser{first: first, failed: func(line int, problem string) {
		o.list = append(o.list, &Error{Place: Place{Line: line}, Field: "data.mesh", Problem: problem})
	}}
	n := p.yaml([]byte(mesh.text))
	if n == nil {
		n = &node{line: mesh.line, kind: isObject}
	}
	inner.root = n
	r.meshConfig(inner, "", n, o.at)
	for _, e := range inner.list {
		e.Field = strings.TrimSuffix("data.mesh: "+e.Field, ": ")
	}
	o.list = append(o.list, inner.list...)
}

// operator reads MeshConfig out of an IstioOperator. Its other fields install Istio, and do not matter here.
func (r *reader) operator(o *object) {
	if mesh := o.Spec.get("meshConfig"); mesh != nil {
		r.meshConfig(&o.problems, "spec.meshConfig", mesh, o.at)
	}
}

func (r *reader) meshConfig(p *problems, path string, n *node, at Place) {
	if inner := n.get("meshConfig"); inner != nil {
		path, n = "meshConfig", inner
	}
	if r.set.MeshConfig != nil {
		p.at(path, "a second MeshConfig; the first is at %s", r.meshFrom)
		return
	}
	config := &meshconfig.MeshConfig{}
	p.message(path, n, config, true)
	r.set.MeshConfig, r.meshFrom = config, at
}

// RootNamespace of the mesh.
func (s *Set) RootNamespace() string {
	return cmp.Or(s.MeshConfig.GetRootNamespace(), "istio-system")
}

// TrustDomains are the mesh's trust domain, cluster.local unless MeshConfig says otherwise, and its aliases.
func (s *Set) TrustDomains() []string {
	return append([]string{cmp.Or(s.MeshConfig.GetTrustDomain(), "cluster.local")}, s.MeshConfig.GetTrustDomainAliases()...)
}

// PathNormalization is the mode that MeshConfig asks for, BASE unless it says otherwise.
func (s *Set) PathNormalization() string {
	switch n := s.MeshConfig.GetPathNormalization().GetNormalization(); n {
	case meshconfig.MeshConfig_ProxyPathNormalization_DEFAULT:
		return "BASE"
	default:
		return n.String()
	}
}

// Normalization gives the steps of a mode of MeshConfig.
func Normalization(mode string) (pathnorm.Options, error) {
	switch mode {
	case "NONE":
		return pathnorm.None, nil
	case "BASE", "DEFAULT":
		return pathnorm.Base, nil
	case "MERGE_SLASHES":
		return pathnorm.MergeSlashes, nil
	case "DECODE_AND_MERGE_SLASHES":
		return pathnorm.DecodeAndMergeSlashes, nil
	}
	return pathnorm.Options{}, fmt.Errorf("path normalisation %q is none of NONE, BASE, MERGE_SLASHES, DECODE_AND_MERGE_SLASHES", mode)
}
