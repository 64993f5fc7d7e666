package cel

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/types/known/structpb"
)

var jsonValue = reflect.TypeFor[*structpb.Value]()

// appendValue prints a value as Envoy does.
func appendValue(dst []byte, v ref.Val) []byte {
	switch v := v.(type) {
	case types.Bool:
		return strconv.AppendBool(dst, bool(v))
	case types.Int:
		return strconv.AppendInt(dst, int64(v), 10)
	case types.Uint:
		return strconv.AppendUint(dst, uint64(v), 10)
	case types.Double:
		return appendDouble(dst, float64(v))
	case types.String:
		return append(dst, v...)
	case label:
		return append(dst, v.String...)
	case types.Bytes:
		return append(dst, v...)
	case types.Duration:
		return appendDuration(dst, v.Duration)
	case types.Timestamp:
		return v.UTC().AppendFormat(dst, "2006-01-02T15:04:05.999999999+00:00")
	case types.Null:
		return append(dst, "NULL"...)
	case traits.Mapper:
		return append(dst, "CelMap value"...)
	case traits.Lister:
		return append(dst, "CelList value"...)
	}
	return append(append(dst, v.Type().TypeName()...), " value"...)
}

// appendDouble prints six digits, as absl::StrCat.
func appendDouble(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-inf"...)
	case math.IsNaN(f):
		return append(dst, "nan"...)
	}
	return strconv.AppendFloat(dst, f, 'g', 6, 64)
}

// appendDuration prints a duration as absl::FormatDuration: "1.5s", "1h", "72h3m0.5s", "0". Go's form differs in its zeros.
func appendDuration(dst []byte, d time.Duration) []byte {
	if d == 0 {
		return append(dst, '0')
	}
	s := strings.ReplaceAll(d.String(), "µs", "us")
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	// Inside, a zero stays out as well: 1h0m5s is 1h5s.
	s = strings.Replace(s, "h0m", "h", 1)
	return append(dst, s...)
}

// appendJSON adds numbers, bools, maps and lists as JSON, and anything else as text that is not escaped yet: bytes in base64,
// durations as seconds, timestamps as they are printed.
func appendJSON(dst []byte, v ref.Val) (out []byte, text bool) {
	switch v := v.(type) {
	case types.Bool, types.Int, types.Uint:
		return appendValue(dst, v), false
	case types.Bytes:
		return base64.StdEncoding.AppendEncode(dst, v), true
	case types.Duration:
		return append(strconv.AppendFloat(dst, v.Seconds(), 'f', -1, 64), 's'), true
	case types.Null:
		return append(dst, "null"...), false
	case types.Double, traits.Mapper, traits.Lister:
		native, err := v.ConvertToNative(jsonValue)
		if err != nil {
			return appendValue(dst, v), true // a map of attributes: Envoy prints its kind, too
		}
		b, err := json.Marshal(native.(*structpb.Value).AsInterface())
		if err != nil {
			return appendValue(dst, v), true
		}
		return append(dst, b...), false
	}
	return appendValue(dst, v), true
}
