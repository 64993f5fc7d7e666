package format

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// Line is a compiled format of either kind.
type Line interface {
	Append(dst []byte, r *telemetry.Record) []byte
}

// FromProto compiles envoy.config.core.v3.SubstitutionFormatString. Text is taken as it is; a JSON line ends in a newline,
// as in Envoy. omit_empty_values overrides o.OmitEmpty.
//
// The list of formatter extensions is not consulted: an operator that one of them would add is either built in here
// (REQ_WITHOUT_QUERY, METADATA) or refused by name. json_format_options.sort_properties makes no difference: Envoy's JSON
// is sorted with and without it.
func FromProto(s *corev3.SubstitutionFormatString, o Options) (Line, error) {
	o.OmitEmpty = s.GetOmitEmptyValues()
	switch s.GetFormat().(type) {
	case *corev3.SubstitutionFormatString_TextFormat:
		return line(Compile(s.GetTextFormat(), o))
	case *corev3.SubstitutionFormatString_TextFormatSource:
		text, err := source(s.GetTextFormatSource(), o)
		if err != nil {
			return nil, fmt.Errorf("text_format_source: %w", err)
		}
		return line(Compile(text, o))
	case *corev3.SubstitutionFormatString_JsonFormat:
		j, err := CompileJSON(s.GetJsonFormat(), o)
		if err != nil {
			return nil, err
		}
		return jsonLine{j}, nil
	}
	return nil, errors.New("format: neither text_format, text_format_source nor json_format is set")
}

// line keeps a nil *Format from becoming a Line that is not nil.
func line(f *Format, err error) (Line, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// NewlineJSON is j with a line end after each object.
func NewlineJSON(j *JSON) Line { return jsonLine{j} }

type jsonLine struct{ *JSON }

func (j jsonLine) Append(dst []byte, r *telemetry.Record) []byte {
	return append(j.JSON.Append(dst, r), '\n')
}

func source(d *corev3.DataSource, o Options) (string, error) {
	switch d.GetSpecifier().(type) {
	case *corev3.DataSource_InlineString:
		return d.GetInlineString(), nil
	case *corev3.DataSource_InlineBytes:
		return string(d.GetInlineBytes()), nil
	case *corev3.DataSource_EnvironmentVariable:
		if o.Env != nil {
			if v, ok := o.Env(d.GetEnvironmentVariable()); ok {
				return v, nil
			}
		}
		return "", fmt.Errorf("environment variable %q is not set", d.GetEnvironmentVariable())
	case *corev3.DataSource_Filename:
		return "", errors.New("filename is not supported; use inline_string")
	}
	return "", errors.New("no source is set")
}
