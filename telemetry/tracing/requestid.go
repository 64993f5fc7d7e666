package tracing

import (
	crand "crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	uuidv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
)

// Reason is why a request is traced, or that it is not.
type Reason uint8

// The reasons, as the request id tells them.
const (
	NotTraced     Reason = iota // '4'
	Sampled                     // '9'
	ServiceForced               // 'a': x-envoy-force-trace
	ClientForced                // 'b': x-client-trace-id
)

const (
	uuidLength     = 36
	reasonPosition = 14 // the version digit of the UUID: "xxxxxxxx-xxxx-4xxx-…"
)

var reasonDigits = [...]byte{NotTraced: '4', Sampled: '9', ServiceForced: 'a', ClientForced: 'b'}

// randomness is ChaCha8 with a seed from crypto/rand, one generator per core. A request id must not be guessable from others,
// which this generator promises (C2SP chacha8rand: its state does not follow from its output, nor past output from its state);
// crypto/rand itself costs ten times as much, and would be a tenth of what a request may cost.
var randomness = sync.Pool{New: func() any {
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails (crypto/rand)
	return rand.NewChaCha8(seed)
}}

// random64 is a random number that is not zero: zero means "no id" in every trace context format.
func random64() uint64 {
	g := randomness.Get().(*rand.ChaCha8)
	defer randomness.Put(g)
	for {
		if v := g.Uint64(); v != 0 {
			return v
		}
	}
}

// idsAtOnce is how many request ids are made in one go, as parts of one string: an allocation for each is a third of what a
// request allocates. Who keeps an id keeps the others' bytes, too.
const idsAtOnce = 8

// requestIDs are ids that nobody has had yet.
type requestIDs struct {
	text string
	next int // in text
}

var idStocks = sync.Pool{New: func() any { return &requestIDs{} }}

// NewRequestID makes a random UUID (RFC 9562 version 4) for x-request-id.
func NewRequestID() string {
	s := idStocks.Get().(*requestIDs)
	if s.next == len(s.text) {
		s.text, s.next = newRequestIDs(), 0
	}
	id := s.text[s.next : s.next+uuidLength]
	s.next += uuidLength
	idStocks.Put(s)
	return id
}

func newRequestIDs() string {
	g := randomness.Get().(*rand.ChaCha8)
	defer randomness.Put(g)
	var text [idsAtOnce * uuidLength]byte
	for i := range idsAtOnce {
		var b [16]byte
		binary.LittleEndian.PutUint64(b[:8], g.Uint64())
		binary.LittleEndian.PutUint64(b[8:], g.Uint64())
		b[6] = b[6]&0x0f | 0x40
		b[8] = b[8]&0x3f | 0x80
		s := text[i*uuidLength:][:uuidLength]
		hex.Encode(s[0:8], b[0:4])
		hex.Encode(s[9:13], b[4:6])
		hex.Encode(s[14:18], b[6:8])
		hex.Encode(s[19:23], b[8:10])
		hex.Encode(s[24:36], b[10:16])
		s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	}
	return string(text[:])
}

// RequestIDConfig is HttpConnectionManager.request_id_extension for UUIDs. Use [DefaultRequestID] or [CompileRequestID].
type RequestIDConfig struct {
	// PackReason writes the reason into the id.
	PackReason bool
	// UseForSampling takes the random number for sampling from the id, so that every proxy on the way of a request decides
	// alike.
	UseForSampling bool
}

// DefaultRequestID is what Envoy does without request_id_extension.
var DefaultRequestID = RequestIDConfig{PackReason: true, UseForSampling: true}

// CompileRequestID translates request_id_extension; nil is the default.
func CompileRequestID(e *hcmv3.RequestIDExtension) (RequestIDConfig, error) {
	out := DefaultRequestID
	config := e.GetTypedConfig()
	if config == nil {
		return out, nil
	}
	c := &uuidv3.UuidRequestIdConfig{}
	if !config.MessageIs(c) {
		return out, fmt.Errorf("request_id_extension: type %s is not supported; use UuidRequestIdConfig", config.GetTypeUrl())
	}
	if err := config.UnmarshalTo(c); err != nil {
		return out, fmt.Errorf("request_id_extension: %w", err)
	}
	if v := c.GetPackTraceReason(); v != nil {
		out.PackReason = v.GetValue()
	}
	if v := c.GetUseRequestIdForTraceSampling(); v != nil {
		out.UseForSampling = v.GetValue()
	}
	return out, nil
}

// ReasonOf reads the reason from a request id; NotTraced if it is no UUID.
func ReasonOf(id string) Reason {
	if len(id) != uuidLength {
		return NotTraced
	}
	for r := Sampled; r <= ClientForced; r++ {
		if id[reasonPosition] == reasonDigits[r] {
			return r
		}
	}
	return NotTraced
}

// WithReason writes the reason into a request id. An id that is no UUID, or has the reason already, is returned as it is.
func WithReason(id string, r Reason) string {
	if len(id) != uuidLength || id[reasonPosition] == reasonDigits[r] {
		return id
	}
	return id[:reasonPosition] + string(reasonDigits[r]) + id[reasonPosition+1:]
}

// sample is the number from 0 to 9999 that a request id stands for; ok is false if its first eight characters are not hex.
func sample(id string) (n uint64, ok bool) {
	if len(id) < 8 {
		return 0, false
	}
	v, err := strconv.ParseUint(id[:8], 16, 64)
	return v % 10000, err == nil
}
