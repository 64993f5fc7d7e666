package message

import "io"

// Conn is a stream of bytes below a codec: a tunnel, a TCP or TLS connection, or one inside another.
//
// One goroutine may read while another writes. Close and Reset may be called from any goroutine.
type Conn interface {
	io.Reader
	io.Writer

	// CloseWrite ends this side's bytes; the peer's still come (TCP half-close, END_STREAM, TLS close_notify).
	CloseWrite() error

	// Close ends both directions in order: what was written is still delivered.
	Close() error

	// Reset ends both directions at once and lets the peer see that it was no orderly end (RST_STREAM, TCP RST).
	Reset(code ResetCode)

	// OnReset names the function that is called, once, when the peer gives the connection up in both directions; see
	// [Stream.OnReset]. A transport that learns of it only by reading never calls it.
	OnReset(f func(*ResetError))
}
