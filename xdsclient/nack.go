package xdsclient

import (
	"fmt"
	"strings"
	"unicode/utf8"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
)

const (
	// maxReason bounds what is said of one field: a reason that quotes a whole resource helps nobody.
	maxReason = 512
	// maxDetail bounds a NACK. istiod reads requests of up to 4 MiB; a quarter of it names some thousands of resources, and a
	// larger request would end the stream, again and again.
	maxDetail = 1 << 20
)

// errorDetail returns the error_detail of a NACK: Envoy's sentence (for listeners and clusters; the same form for the others),
// then every rejected resource with field and reason. The code is INTERNAL as from Envoy: istiod turns it into the err label
// of pilot_xds_*_reject.
func errorDetail(typeURL string, rejected []Rejection) *rpcstatus.Status {
	noun, separator := ShortType(typeURL), ", "
	if i := rank(typeURL); i < len(pushOrder) {
		noun, separator = pushOrder[i].noun, pushOrder[i].separator
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Error adding/updating %s(s) ", noun)
	for i, r := range rejected {
		if i > 0 {
			b.WriteString(separator)
		}
		r.Reason = truncate(r.Reason, maxReason)
		text := strings.ToValidUTF8(r.String(), "\uFFFD") // a protobuf string must be UTF-8, or the NACK could not be sent
		if b.Len()+len(text) > maxDetail {
			fmt.Fprintf(&b, "and %d more", len(rejected)-i)
			break
		}
		b.WriteString(text)
	}
	return &rpcstatus.Status{Code: int32(codes.Internal), Message: b.String()}
}

// truncate cuts s to at most n bytes, between two characters, and marks the cut.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
