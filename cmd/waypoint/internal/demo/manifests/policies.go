package manifests

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	securityv1beta1 "istio.io/api/security/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/istio"
)

func policy(d *document) (istio.Policy, error) {
	p := istio.Policy{Namespace: d.Metadata.Namespace, Name: d.Metadata.Name, Annotations: d.Metadata.Annotations, Spec: &securityv1beta1.AuthorizationPolicy{}}
	if len(d.Spec) == 0 {
		return p, nil
	}
	var tree any
	err := json.Unmarshal(d.Spec, &tree)
	if err == nil {
		err = checkMessage("spec", tree, p.Spec.ProtoReflect().Descriptor())
	}
	if err == nil {
		err = protojson.Unmarshal(d.Spec, p.Spec)
	}
	if err != nil {
		return p, d.errorf("%w", err)
	}
	return p, nil
}

// checkMessage names the path of a field that a protobuf message does not have; protojson only names the field.
func checkMessage(path string, tree any, m protoreflect.MessageDescriptor) error {
	switch v := tree.(type) {
	case []any:
		for i, e := range v {
			if err := checkMessage(fmt.Sprintf("%s[%d]", path, i), e, m); err != nil {
				return err
			}
		}
	case map[string]any:
		for key, value := range v {
			f := m.Fields().ByJSONName(key)
			if f == nil {
				var known []string
				for i := range m.Fields().Len() {
					known = append(known, m.Fields().Get(i).JSONName())
				}
				return fmt.Errorf("%s.%s: no such field; there are %s", path, key, strings.Join(known, ", "))
			}
			if f.Message() != nil && !f.IsMap() {
				if err := checkMessage(path+"."+key, value, f.Message()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
