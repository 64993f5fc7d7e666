package format

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
)

// millis is a duration in whole milliseconds, cut off as Envoy does.
func millis(get func(*record) telemetry.Millis) operator {
	return span(get, time.Millisecond)
}

func span(get func(*record) telemetry.Millis, unit time.Duration) operator {
	return func(dst []byte, r *record) ([]byte, kind) {
		d, ok := get(r).Get()
		if !ok {
			return dst, absent
		}
		return strconv.AppendInt(dst, int64(d/unit), 10), literal
	}
}

// since is the time from the start to a moment.
func since(get func(*telemetry.Timing) telemetry.Moment) operator {
	return millis(func(r *record) telemetry.Millis { return get(&r.Timing).SinceStart() })
}

// commonDuration is %COMMON_DURATION(START:END:PRECISION)%.
func commonDuration(p part, o Options) (operator, error) {
	f := strings.Split(p.arg, ":")
	if len(f) < 2 || len(f) > 3 {
		return nil, fmt.Errorf("argument %q: wanted START:END or START:END:ms, us or ns", p.arg)
	}
	unit := time.Millisecond
	if len(f) == 3 {
		switch f[2] {
		case "ms":
		case "us":
			unit = time.Microsecond
		case "ns":
			unit = time.Nanosecond
		default:
			return nil, fmt.Errorf("argument %q: the precision is ms, us or ns", p.arg)
		}
	}
	from, known := telemetry.MomentGetter(f[0])
	to, ok := telemetry.MomentGetter(f[1])
	if !known || !ok {
		// Envoy takes any other name for a moment that a filter may set. None does here.
		if o.Report == nil {
			return nil, fmt.Errorf("argument %q: there is no such moment; wanted DS_RX_BEG, DS_RX_END, US_CX_BEG, US_CX_END, US_TX_BEG, US_TX_END, US_RX_BEG, US_RX_BODY_BEG, US_RX_END, DS_TX_BEG or DS_TX_END", p.arg)
		}
		o.Report("%COMMON_DURATION(" + p.arg + ")%: nobody sets such a moment, so it prints nothing")
		return nothing, nil
	}
	return span(func(r *record) telemetry.Millis { return to(&r.Timing).After(from(&r.Timing)) }, unit), nil
}

// nothing is an operator whose value is never there.
func nothing(dst []byte, _ *record) ([]byte, kind) { return dst, absent }

// zero is a count of what does not happen here.
func zero(dst []byte, _ *record) ([]byte, kind) { return append(dst, '0'), literal }

// empty is text that is always there and always empty.
func empty(dst []byte, _ *record) ([]byte, kind) { return dst, text }
