// Package format compiles Envoy's substitution format language to operators over a [telemetry.Record].
//
//	"%REQ(:METHOD)% %RESPONSE_CODE% %START_TIME(%s.%3f)%\n"
//
// A format is compiled once, when its configuration arrives, and then appends to a byte slice without allocating. The same
// compiler serves access logs (text and JSON), header values (request_headers_to_add), set_filter_state and span tags.
//
// The language is the one of Envoy 1.40 (access log "command operators"): %COMMAND(ARGUMENT):LENGTH%, "%%" for a percent
// sign. A command that is not known, or an argument that makes no sense, is an error that names it: a log line with a
// silent "-" in it would be worse than a listener that is refused.
//
// In text an absent value prints "-" (or nothing, with omit_empty_values). In JSON a value that consists of one operator
// keeps its type: numbers stay numbers, an absent value is null; anything else is a string. Keys are sorted by name at each
// level, as Envoy does whatever sort_properties says.
package format
