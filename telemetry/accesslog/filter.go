package accesslog

import (
	"fmt"
	"regexp"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/telemetry/cel"
)

// filter decides whether a record is logged.
type filter func(*telemetry.Record) bool

func everything(*telemetry.Record) bool { return true }

// filterOptions are what filters take from the process; report takes what is not honoured.
type filterOptions struct {
	cel    *cel.Env
	report func(f string, args ...any)
}

// compileFilter translates a filter; nil in, nil out. What is not honoured is reported and passes everything.
func compileFilter(f *accesslogv3.AccessLogFilter, o filterOptions) (filter, error) {
	if f == nil {
		return nil, nil
	}
	switch f.GetFilterSpecifier().(type) {
	case *accesslogv3.AccessLogFilter_StatusCodeFilter:
		compare := comparison(f.GetStatusCodeFilter().GetComparison(), o)
		return func(r *telemetry.Record) bool { return compare(uint64(r.ResponseCode)) }, nil
	case *accesslogv3.AccessLogFilter_DurationFilter:
		compare := comparison(f.GetDurationFilter().GetComparison(), o)
		return func(r *telemetry.Record) bool {
			d, ok := r.Duration.Get()
			return ok && compare(uint64(d.Milliseconds()))
		}, nil
	case *accesslogv3.AccessLogFilter_NotHealthCheckFilter:
		return func(r *telemetry.Record) bool { return !r.HealthCheck }, nil
	case *accesslogv3.AccessLogFilter_ResponseFlagFilter:
		return flagFilter(f.GetResponseFlagFilter())
	case *accesslogv3.AccessLogFilter_GrpcStatusFilter:
		return grpcFilter(f.GetGrpcStatusFilter()), nil
	case *accesslogv3.AccessLogFilter_HeaderFilter:
		return headerFilter(f.GetHeaderFilter().GetHeader(), o)
	case *accesslogv3.AccessLogFilter_AndFilter:
		parts, err := compileFilters(f.GetAndFilter().GetFilters(), o)
		return func(r *telemetry.Record) bool {
			for _, p := range parts {
				if !p(r) {
					return false
				}
			}
			return true
		}, err
	case *accesslogv3.AccessLogFilter_OrFilter:
		parts, err := compileFilters(f.GetOrFilter().GetFilters(), o)
		return func(r *telemetry.Record) bool {
			for _, p := range parts {
				if p(r) {
					return true
				}
			}
			return false
		}, err
	case *accesslogv3.AccessLogFilter_ExtensionFilter:
		return extensionFilter(f.GetExtensionFilter(), o)
	}
	o.report("filter %s is not honoured; everything is logged", strings.TrimPrefix(fmt.Sprintf("%T", f.GetFilterSpecifier()), "*accesslogv3.AccessLogFilter_"))
	return everything, nil
}

func compileFilters(list []*accesslogv3.AccessLogFilter, o filterOptions) ([]filter, error) {
	var out []filter
	for _, f := range list {
		c, err := compileFilter(f, o)
		if err != nil {
			return nil, err
		}
		if c == nil {
			c = everything
		}
		out = append(out, c)
	}
	return out, nil
}

// comparison compares with the default of a runtime value: there is no runtime to override it.
func comparison(c *accesslogv3.ComparisonFilter, o filterOptions) func(uint64) bool {
	want := uint64(c.GetValue().GetDefaultValue())
	switch c.GetOp() {
	case accesslogv3.ComparisonFilter_EQ:
		return func(v uint64) bool { return v == want }
	case accesslogv3.ComparisonFilter_GE:
		return func(v uint64) bool { return v >= want }
	case accesslogv3.ComparisonFilter_LE:
		return func(v uint64) bool { return v <= want }
	case accesslogv3.ComparisonFilter_NE:
		return func(v uint64) bool { return v != want }
	}
	o.report("filter comparison %v is not known; everything is logged", c.GetOp())
	return func(uint64) bool { return true }
}

// flagFilter passes records with one of the flags; with any flag if the list is empty.
func flagFilter(f *accesslogv3.ResponseFlagFilter) (filter, error) {
	var flags []telemetry.Flag
	for _, name := range f.GetFlags() {
		flag, err := telemetry.ParseFlag(name)
		if err != nil {
			return nil, fmt.Errorf("response_flag_filter.flags: %w", err)
		}
		flags = append(flags, flag)
	}
	return func(r *telemetry.Record) bool {
		if len(flags) == 0 {
			return r.Flags != 0
		}
		for _, flag := range flags {
			if r.Flags.Has(flag) {
				return true
			}
		}
		return false
	}, nil
}

func grpcFilter(f *accesslogv3.GrpcStatusFilter) filter {
	codes := map[int]bool{}
	for _, s := range f.GetStatuses() {
		codes[int(s)] = true
	}
	return func(r *telemetry.Record) bool {
		code, ok := r.GRPCStatus.Code()
		if !ok {
			code = telemetry.HTTPToGRPC(r.ResponseCode)
		}
		return codes[code] != f.GetExclude()
	}
}

// headerFilter matches one request header. Several values of a header are one, joined by commas.
func headerFilter(h *routev3.HeaderMatcher, o filterOptions) (filter, error) {
	name := strings.ToLower(h.GetName())
	match, err := valueMatcher(h)
	if err != nil {
		return nil, fmt.Errorf("header_filter %q: %w", name, err)
	}
	if match == nil {
		o.report("filter.header_filter %q: this kind of match is not honoured; everything is logged", name)
		return everything, nil
	}
	return func(r *telemetry.Record) bool {
		v, ok := r.RequestHeader(name)
		if !ok && !h.GetTreatMissingHeaderAsEmpty() {
			// A header that is missing matches nothing: "inverted" then holds, and so does "present: false".
			if _, isPresent := h.GetHeaderMatchSpecifier().(*routev3.HeaderMatcher_PresentMatch); isPresent {
				return (h.GetPresentMatch() == ok) != h.GetInvertMatch()
			}
			return h.GetInvertMatch()
		}
		return match(v) != h.GetInvertMatch()
	}, nil
}

// valueMatcher is nil for a kind of match that is not honoured.
func valueMatcher(h *routev3.HeaderMatcher) (func(string) bool, error) {
	switch h.GetHeaderMatchSpecifier().(type) {
	case nil:
		return func(string) bool { return true }, nil // only presence
	case *routev3.HeaderMatcher_PresentMatch:
		return func(string) bool { return h.GetPresentMatch() }, nil
	case *routev3.HeaderMatcher_StringMatch:
		return stringMatcher(h.GetStringMatch())
	}
	return nil, nil
}

func stringMatcher(m *matcherv3.StringMatcher) (func(string) bool, error) {
	fold := func(s string) string {
		if m.GetIgnoreCase() {
			return strings.ToLower(s)
		}
		return s
	}
	switch m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		want := fold(m.GetExact())
		return func(s string) bool { return fold(s) == want }, nil
	case *matcherv3.StringMatcher_Prefix:
		want := fold(m.GetPrefix())
		return func(s string) bool { return strings.HasPrefix(fold(s), want) }, nil
	case *matcherv3.StringMatcher_Suffix:
		want := fold(m.GetSuffix())
		return func(s string) bool { return strings.HasSuffix(fold(s), want) }, nil
	case *matcherv3.StringMatcher_Contains:
		want := fold(m.GetContains())
		return func(s string) bool { return strings.Contains(fold(s), want) }, nil
	case *matcherv3.StringMatcher_SafeRegex:
		re, err := regexp.Compile(`\A(?:` + m.GetSafeRegex().GetRegex() + `)\z`) // Envoy matches the whole value
		if err != nil {
			return nil, err
		}
		return re.MatchString, nil
	}
	return nil, nil
}
