package h2

import (
	"encoding/binary"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

type frameType uint8

// Frame types of RFC 9113, 6. Any other type is skipped (4.1).
const (
	frameData         frameType = 0x0
	frameHeaders      frameType = 0x1
	framePriority     frameType = 0x2
	frameRSTStream    frameType = 0x3
	frameSettings     frameType = 0x4
	framePushPromise  frameType = 0x5
	framePing         frameType = 0x6
	frameGoAway       frameType = 0x7
	frameWindowUpdate frameType = 0x8
	frameContinuation frameType = 0x9
)

const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings of RFC 9113, 6.5.2 and RFC 8441, 3.
const (
	settingHeaderTableSize       = 0x1
	settingEnablePush            = 0x2
	settingMaxConcurrentStreams  = 0x3
	settingInitialWindowSize     = 0x4
	settingMaxFrameSize          = 0x5
	settingMaxHeaderListSize     = 0x6
	settingEnableConnectProtocol = 0x8
)

const (
	preface        = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	frameHeaderLen = 9

	// Values in force until SETTINGS say otherwise (RFC 9113, 6.5.2 and 6.9.2).
	defaultMaxFrameSize = 1 << 14
	defaultWindow       = 1<<16 - 1

	maxWindow    = 1<<31 - 1
	maxStreamID  = 1<<31 - 1
	maxFrameSize = 1<<24 - 1
)

type frameHeader struct {
	length   int
	typ      frameType
	flags    uint8
	streamID uint32
}

func (h frameHeader) has(flag uint8) bool { return h.flags&flag != 0 }

// parseFrameHeader reads the nine bytes that begin every frame; len(b) must be at least that.
func parseFrameHeader(b []byte) frameHeader {
	_ = b[8]
	return frameHeader{
		length:   int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		typ:      frameType(b[3]),
		flags:    b[4],
		streamID: binary.BigEndian.Uint32(b[5:]) & maxStreamID,
	}
}

func appendFrameHeader(b []byte, length int, typ frameType, flags uint8, streamID uint32) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), byte(typ), flags,
		byte(streamID>>24), byte(streamID>>16), byte(streamID>>8), byte(streamID))
}

// putFrameLength corrects the length of the frame that begins at b[0].
func putFrameLength(b []byte, length int) {
	b[0], b[1], b[2] = byte(length>>16), byte(length>>8), byte(length)
}

func appendRSTStream(b []byte, streamID uint32, code message.ResetCode) []byte {
	b = appendFrameHeader(b, 4, frameRSTStream, 0, streamID)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendWindowUpdate(b []byte, streamID uint32, n uint32) []byte {
	b = appendFrameHeader(b, 4, frameWindowUpdate, 0, streamID)
	return binary.BigEndian.AppendUint32(b, n)
}

func appendPing(b []byte, ack bool, data [8]byte) []byte {
	flags := uint8(0)
	if ack {
		flags = flagAck
	}
	b = appendFrameHeader(b, 8, framePing, flags, 0)
	return append(b, data[:]...)
}

func appendGoAway(b []byte, last uint32, code message.ResetCode, debug string) []byte {
	b = appendFrameHeader(b, 8+len(debug), frameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, debug...)
}

type setting struct {
	id    uint16
	value uint32
}

func appendSettings(b []byte, list ...setting) []byte {
	b = appendFrameHeader(b, 6*len(list), frameSettings, 0, 0)
	for _, s := range list {
		b = binary.BigEndian.AppendUint16(b, s.id)
		b = binary.BigEndian.AppendUint32(b, s.value)
	}
	return b
}

func appendSettingsAck(b []byte) []byte {
	return appendFrameHeader(b, 0, frameSettings, flagAck, 0)
}
