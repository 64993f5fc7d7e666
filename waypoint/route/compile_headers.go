package route

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gowaypoint/gowaypoint/telemetry/format"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// headerOps compiles a pair of …_to_add and …_to_remove of the message at path; field is what precedes these.
func (c *compiler) headerOps(path, field string, add []*corev3.HeaderValueOption, remove []string) (HeaderOps, error) {
	var ops HeaderOps
	for i, o := range add {
		here := index(field+"_to_add", i)
		if err := o.Validate(); err != nil {
			return ops, at(here, err)
		}
		a, err := c.headerAdd(o, join(path, here))
		if err != nil {
			return ops, at(fmt.Sprintf("%s %q", here, o.GetHeader().GetKey()), err)
		}
		if framing[a.Name] {
			c.note(join(path, here), fmt.Sprintf("%q is not added: it frames the message, and that is the proxy's own affair", a.Name))
			continue
		}
		ops.Add = append(ops.Add, a)
	}
	for i, name := range remove {
		name = lowerName(name)
		if err := modifiable(name); err != nil {
			return ops, at(fmt.Sprintf("%s %q", index(field+"_to_remove", i), name), err)
		}
		ops.Remove = append(ops.Remove, name)
	}
	return ops, nil
}

// framing are fields that say where a message ends. Envoy adds them if told to, and a backend may then see two requests in one.
var framing = map[string]bool{"content-length": true, "transfer-encoding": true}

// modifiable refuses what Envoy refuses. istiod turns an operation on Host into host_rewrite_literal.
func modifiable(name string) error {
	if name == "" {
		return errors.New("a header needs a name")
	}
	if name[0] == ':' || name == "host" {
		return errors.New(":-prefixed or host headers may not be modified; use the rewrites of the route action")
	}
	return nil
}

func (c *compiler) headerAdd(o *corev3.HeaderValueOption, path string) (HeaderAdd, error) {
	a := HeaderAdd{Name: lowerName(o.GetHeader().GetKey()), KeepEmpty: o.GetKeepEmptyValue()}
	if err := modifiable(a.Name); err != nil {
		return a, err
	}
	switch o.GetAppendAction() {
	case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
	case corev3.HeaderValueOption_ADD_IF_ABSENT:
		a.Action = AddIfAbsent
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
		a.Action = OverwriteOrAdd
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
		a.Action = OverwriteIfExists
	default:
		return a, fmt.Errorf("append_action %d is not known", o.GetAppendAction())
	}
	if old := o.GetAppend(); old != nil { // the deprecated form
		if a.Action != AppendOrAdd {
			return a, errors.New("append and append_action may not both be set")
		}
		if !old.GetValue() {
			a.Action = OverwriteOrAdd
		}
	}
	value := o.GetHeader().GetValue()
	if raw := o.GetHeader().GetRawValue(); len(raw) > 0 {
		if value != "" {
			return a, errors.New("value and raw_value may not both be set")
		}
		value = strings.ReplaceAll(string(raw), "%", "%%")
	}
	var err error
	a.Value, err = c.format(path+".header.value", value)
	return a, at("header.value", err)
}

// format compiles a value with operators. An operator that Envoy knows and this program does not is reported, and absent.
func (c *compiler) format(path, value string) (*format.Format, error) {
	o := c.opt.Format
	o.Report = func(note string) { c.note(path, note) }
	return format.Compile(value, o)
}
