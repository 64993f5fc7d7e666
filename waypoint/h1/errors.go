package h1

import (
	"errors"
	"io"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// Envoy's response code details, from its HTTP/1 codec and connection manager.
const (
	detailCodec             = "http1.codec_error"
	detailTooManyHeaders    = "http1.too_many_headers"
	detailHeadersTooLarge   = "http1.headers_too_large"
	detailInvalidCharacters = "http1.invalid_characters"
	detailConnectionHeader  = "http1.connection_header_rejected"
	detailInvalidURL        = "http1.invalid_url"
	detailInvalidScheme     = "http1.invalid_scheme"
	detailTransferEncoding  = "http1.invalid_transfer_encoding"
	detailTENotAllowed      = "http1.transfer_encoding_not_allowed"
	detailLengthAndChunked  = "http1.content_length_and_chunked_not_allowed"
	detailLengthNotAllowed  = "http1.content_length_not_allowed"
	detailBodyDisallowed    = "http1.body_disallowed"
	detailUnderscore        = "http1.unexpected_underscore"
	detailInvalidAuthority  = "http.invalid_authority"
	detailMissingHost       = "missing_host_header"
	detailLowVersion        = "low_version"
)

// The statuses that the codec looks at or answers with.
const (
	statusBadRequest         = 400
	statusUpgradeRequired    = 426
	statusHeadersTooLarge    = 431
	statusNotImplemented     = 501
	statusBadGateway         = 502
	statusSwitchingProtocols = 101
)

func malformed(status int, details, reason string) *message.Malformed {
	return &message.Malformed{Status: status, Details: details, Reason: reason}
}

// bad is a request that breaks the grammar.
func bad(reason string) *message.Malformed { return malformed(statusBadRequest, detailCodec, reason) }

// fromUpstream turns the verdict on a response into what the client gets for it: the fault is not the client's.
func fromUpstream(err error) error {
	m := message.AsMalformed(err)
	if m == nil {
		return err
	}
	return &message.Malformed{Status: statusBadGateway, Details: m.Details, Reason: "response: " + m.Reason}
}

// lost is a transport error, as a ResetError. An end of bytes inside a message is io.ErrUnexpectedEOF.
func lost(err error) error {
	var r *message.ResetError
	if errors.As(err, &r) {
		return r
	}
	return &message.ResetError{Code: message.ConnectError, Lost: true, Cause: err}
}

func cutOff(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return lost(err)
}

// Misuse of a writer by our own code: the message could not be framed as its head says.
var (
	errNoHead   = errors.New("h1: body before head")
	errTwoHeads = errors.New("h1: a head after the final head")
	errEnded    = errors.New("h1: write after the end of the message")
	errTooLong  = errors.New("h1: body longer than its content-length")
	errTooShort = errors.New("h1: body shorter than its content-length")
	errHead     = errors.New("h1: head has a character or a content-length that cannot be sent")
)
