package setfilterstate

import (
	"errors"

	"github.com/gowaypoint/gowaypoint/telemetry/format"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// compileFormat compiles the text forms of a format string. The list of formatters is not consulted: an operator that one of
// them would add is either built in or refused.
func compileFormat(s *corev3.SubstitutionFormatString, o format.Options) (value, error) {
	o.OmitEmpty = s.GetOmitEmptyValues()
	o.Report = nil // an operator that is empty here could be a principal
	var text string
	switch s.GetFormat().(type) {
	case *corev3.SubstitutionFormatString_TextFormat:
		text = s.GetTextFormat()
	case *corev3.SubstitutionFormatString_TextFormatSource:
		src, ok := s.GetTextFormatSource().GetSpecifier().(*corev3.DataSource_InlineString)
		if !ok {
			return nil, errors.New("text_format_source: only inline_string is supported")
		}
		text = src.InlineString
	case *corev3.SubstitutionFormatString_JsonFormat:
		return nil, errors.New("json_format: not supported; use text_format_source")
	default:
		return nil, errors.New("neither text_format nor text_format_source is set")
	}
	return format.Compile(text, o)
}
