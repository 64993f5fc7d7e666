package accesslog

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
)

// extensionFilter translates a filter by CEL expression, which istiod makes of Telemetry accessLogging.filter.expression. It is
// known by the type of its configuration. A record for which the expression fails is not logged, as in Envoy.
func extensionFilter(f *accesslogv3.ExtensionFilter, o filterOptions) (filter, error) {
	c := &celv3.ExpressionFilter{}
	if !f.GetTypedConfig().MessageIs(c) {
		o.report("filter.extension_filter %s (%s) is not honoured; everything is logged", f.GetName(), f.GetTypedConfig().GetTypeUrl())
		return everything, nil
	}
	if err := f.GetTypedConfig().UnmarshalTo(c); err != nil {
		return nil, err
	}
	program, err := o.cel.Compile(c.GetExpression())
	if err != nil {
		// Envoy refuses the listener. A line too many is better than no traffic.
		o.report("filter.extension_filter.expression: %v; everything is logged", err)
		return everything, nil
	}
	for _, name := range program.Unavailable() {
		o.report("filter.extension_filter.expression: the attribute %s is not known and is never there", name)
	}
	return program.Bool, nil
}
