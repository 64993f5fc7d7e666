package identity

import "fmt"

// Note reports a configured field that is not honoured, or that weakens security, without being
// dangerous enough to refuse. The field census and the log show it by Path.
type Note struct {
	// Path of the field from the message that was compiled, e.g. "common_tls_context.key_log".
	Path string
	// Why it is not honoured, and what happens instead.
	Why string
}

func (n Note) String() string { return n.Path + ": " + n.Why }

// FieldError says that a TLS context or secret is refused because of one field.
type FieldError struct {
	Path string // path from the compiled message
	Why  string
}

func (e *FieldError) Error() string {
	if e.Path == "" {
		return e.Why
	}
	return fmt.Sprintf("%s: %s", e.Path, e.Why)
}

func fieldErrorf(path, format string, args ...any) error {
	return &FieldError{Path: path, Why: fmt.Sprintf(format, args...)}
}
