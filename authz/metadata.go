package authz

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/structpb"
)

// ValueTest is a test of one metadata value, as envoy.type.matcher.v3.ValueMatcher. The set is closed.
type ValueTest interface{ valueTest() }

type (
	// ValueString holds for a string that matches.
	ValueString struct{ Pattern Pattern }
	// ValueNumber holds for a number From <= v < To.
	ValueNumber struct{ From, To float64 }
	// ValueNumberExact holds for that number.
	ValueNumberExact float64
	// ValueBool holds for that boolean.
	ValueBool bool
	// ValueNull holds for an explicit null.
	ValueNull struct{}
	// ValuePresent holds for any value if it is true, and never if it is false, as in Envoy.
	ValuePresent bool
	// ValueListHas holds for a list with an element that passes.
	ValueListHas struct{ Element ValueTest }
	// ValueAnyOf holds when any of the tests does.
	ValueAnyOf []ValueTest
)

func (*ValueString) valueTest()     {}
func (*ValueNumber) valueTest()     {}
func (ValueNumberExact) valueTest() {}
func (ValueBool) valueTest()        {}
func (ValueNull) valueTest()        {}
func (ValuePresent) valueTest()     {}
func (*ValueListHas) valueTest()    {}
func (ValueAnyOf) valueTest()       {}

func (e *evaluation) metadata(c *MetadataIs, r reading) bool {
	if c.From == RouteMetadata && !e.request.HTTP {
		return false // a connection has no route, and Envoy then does not even turn the result around
	}
	v := e.metadataValue(c)
	if c.Invert {
		return !valueHolds(c.Value, v, r.opposite())
	}
	return valueHolds(c.Value, v, r)
}

// metadataValue follows the path, and returns nil where it ends early.
func (e *evaluation) metadataValue(c *MetadataIs) *structpb.Value {
	if e.request.Metadata == nil {
		return nil
	}
	s := e.request.Metadata.Metadata(c.From, c.Filter)
	var v *structpb.Value
	for _, key := range c.Path {
		v = s.GetFields()[key]
		s = v.GetStructValue()
	}
	return v
}

// valueHolds tests a value; nil is absent. A list passes when one element does under both readings: which elements a
// claim lists was decided by whoever signed the token.
func valueHolds(t ValueTest, v *structpb.Value, r reading) bool {
	switch t := t.(type) {
	case *ValueString:
		s, ok := v.GetKind().(*structpb.Value_StringValue)
		return ok && t.Pattern.match(s.StringValue, r)
	case *ValueNumber:
		n, ok := v.GetKind().(*structpb.Value_NumberValue)
		return ok && t.From <= n.NumberValue && n.NumberValue < t.To
	case ValueNumberExact:
		n, ok := v.GetKind().(*structpb.Value_NumberValue)
		return ok && n.NumberValue == float64(t)
	case ValueBool:
		b, ok := v.GetKind().(*structpb.Value_BoolValue)
		return ok && b.BoolValue == bool(t)
	case ValueNull:
		_, ok := v.GetKind().(*structpb.Value_NullValue)
		return ok
	case ValuePresent:
		return bool(t) && v.GetKind() != nil
	case *ValueListHas:
		for _, element := range v.GetListValue().GetValues() {
			if valueHolds(t.Element, element, r) {
				return true
			}
		}
		return false
	case ValueAnyOf:
		for _, test := range t {
			if valueHolds(test, v, r) {
				return true
			}
		}
		return false
	}
	return r == possibly // see holds
}

func copyValueTest(t ValueTest) (ValueTest, error) {
	if isNil(t) {
		return nil, errors.New("metadata: no test")
	}
	switch t := t.(type) {
	case *ValueString:
		c := *t
		return &c, nil
	case *ValueNumber:
		c := *t
		return &c, nil
	case ValueNumberExact, ValueBool, ValueNull, ValuePresent:
		return t, nil
	case *ValueListHas:
		element, err := copyValueTest(t.Element)
		return &ValueListHas{element}, err
	case ValueAnyOf:
		c := make(ValueAnyOf, 0, len(t))
		for _, test := range t {
			test, err := copyValueTest(test)
			if err != nil {
				return nil, err
			}
			c = append(c, test)
		}
		return c, nil
	}
	return nil, fmt.Errorf("metadata: unknown test %T", t)
}
