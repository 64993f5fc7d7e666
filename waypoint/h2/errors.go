package h2

import (
	"errors"
	"fmt"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// Why [Conn.Open] gives no stream. The connection itself may be well; a pool then uses another.
var (
	// ErrGoAway: the peer sent GOAWAY, or this side is shutting down. This connection gives no stream any more.
	ErrGoAway = errors.New("h2: the connection takes no new streams (GOAWAY)")
	// ErrTooManyStreams: as many streams are open as the peer allows (SETTINGS_MAX_CONCURRENT_STREAMS).
	ErrTooManyStreams = errors.New("h2: the peer's limit of concurrent streams is reached")
	// ErrOutputBlocked: the output buffer is full because the peer does not read.
	ErrOutputBlocked = errors.New("h2: the connection's output is blocked")
	// ErrClosed: the connection has ended; [Conn.Err] says why.
	ErrClosed = errors.New("h2: the connection is closed")
	// ErrStreamIDs: all 2^30 stream numbers have been used.
	ErrStreamIDs = errors.New("h2: the connection has used up its stream numbers")
)

// ConnError is why a connection ended before its time.
type ConnError struct {
	// Code is what GOAWAY said.
	Code message.ResetCode
	// Remote: the peer sent the GOAWAY; else this side did.
	Remote bool
	// Reason is for people. With Remote it is the peer's debug data.
	Reason string
}

func (e *ConnError) Error() string {
	who := "closed"
	if e.Remote {
		who = "closed by the peer"
	}
	return fmt.Sprintf("h2: connection %s (%s): %s", who, codeName(e.Code), e.Reason)
}

func connError(code message.ResetCode, reason string) *ConnError {
	return &ConnError{Code: code, Reason: reason}
}

var codeNames = [...]string{
	message.NoError:            "NO_ERROR",
	message.ProtocolError:      "PROTOCOL_ERROR",
	message.InternalError:      "INTERNAL_ERROR",
	message.FlowControlError:   "FLOW_CONTROL_ERROR",
	message.SettingsTimeout:    "SETTINGS_TIMEOUT",
	message.StreamClosed:       "STREAM_CLOSED",
	message.FrameSizeError:     "FRAME_SIZE_ERROR",
	message.RefusedStream:      "REFUSED_STREAM",
	message.Cancel:             "CANCEL",
	message.CompressionError:   "COMPRESSION_ERROR",
	message.ConnectError:       "CONNECT_ERROR",
	message.EnhanceYourCalm:    "ENHANCE_YOUR_CALM",
	message.InadequateSecurity: "INADEQUATE_SECURITY",
	message.HTTP11Required:     "HTTP_1_1_REQUIRED",
}

// codeName is the name that RFC 9113, 7 gives the code.
func codeName(c message.ResetCode) string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint32(c))
}
