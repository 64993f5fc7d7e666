package format

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
)

// uuid appends 16 bytes as a version 4 UUID.
func uuid(dst []byte, b [16]byte) []byte {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	for i, part := range [][]byte{b[:4], b[4:6], b[6:8], b[8:10], b[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}

// uniqueID is %UNIQUE_ID%: another one each time.
func uniqueID(dst []byte, _ *record) ([]byte, kind) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return uuid(dst, b), text
}

// streamID is %STREAM_ID%: the request id; of a TCP session, which has none, an id that all its log lines share.
func streamID(dst []byte, r *record) ([]byte, kind) {
	if r.RequestID != "" {
		return append(dst, r.RequestID...), text
	}
	h := fnv.New128a()
	_ = binary.Write(h, binary.BigEndian, [2]uint64{r.ConnectionID, uint64(r.Start.UnixNano())}) // a hash does not fail
	return uuid(dst, [16]byte(h.Sum(nil))), text
}

// logType is %ACCESS_LOG_TYPE%. There is one line for a request or session, at its end, and the listener's own for a connection
// that found no chain.
func logType(dst []byte, r *record) ([]byte, kind) {
	switch {
	case r.NoChain:
		return append(dst, "NotSet"...), text
	case r.Protocol == "":
		return append(dst, "TcpConnectionEnd"...), text
	}
	return append(dst, "DownstreamEnd"...), text
}
