package manifests

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// decodeStrict decodes JSON and refuses fields that the type does not have, by path. encoding/json can do that too, but says
// neither where nor in which letter case.
func decodeStrict(raw []byte, into any) error {
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return err
	}
	if err := checkFields("", tree, reflect.TypeOf(into)); err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func checkFields(path string, tree any, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[inert]() || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	switch v := tree.(type) {
	case map[string]any:
		if t.Kind() == reflect.Map {
			return nil
		}
		if t.Kind() != reflect.Struct {
			return fmt.Errorf("%s: not an object here", path)
		}
		fields := map[string]reflect.Type{}
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			fields[name] = t.Field(i).Type
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			at := strings.TrimPrefix(path+"."+key, ".")
			ft, ok := fields[key]
			if !ok {
				return fmt.Errorf("%s: not supported by the demo; it has %s", at, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
			}
			if err := checkFields(at, v[key], ft); err != nil {
				return err
			}
		}
	case []any:
		if t.Kind() != reflect.Slice {
			return fmt.Errorf("%s: not a list here", path)
		}
		for i, e := range v {
			if err := checkFields(fmt.Sprintf("%s[%d]", path, i), e, t.Elem()); err != nil {
				return err
			}
		}
	}
	return nil
}

// inert is a field that is accepted and has no effect in the demo.
type inert struct{}

func (*inert) UnmarshalJSON([]byte) error { return nil }

// intOrString is a targetPort.
type intOrString struct {
	number uint16
	text   string
}

func (v *intOrString) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &v.text)
	}
	return json.Unmarshal(b, &v.number)
}
