package format

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// timeOperator is %START_TIME(format)% and its kin: by default UTC with milliseconds, 2006-01-02T15:04:05.000Z, or with the
// offset of the local zone. The argument is a format of strftime with Envoy's additions: %s (seconds since the epoch), %f
// (nanoseconds), %3f (the first three digits), %E3S (seconds with a fraction), %E4Y, %ET, and the suffix "_local" for the local
// time zone.
func timeOperator(local bool, get func(*record) (time.Time, bool)) func(part, Options) (operator, error) {
	return func(p part, _ Options) (operator, error) {
		layout, zone := strings.CutSuffix(p.arg, "_local")
		local := local || zone
		if layout == "" && local {
			layout = "%Y-%m-%dT%H:%M:%E3S%z"
		}
		steps, err := compileTime(layout)
		if err != nil {
			return nil, err
		}
		return func(dst []byte, r *record) ([]byte, kind) {
			t, ok := get(r)
			switch {
			case !ok:
				return dst, absent
			case layout == "":
				return appendTime(dst, t.UTC()), text
			case local:
				t = t.Local()
			default:
				t = t.UTC()
			}
			for _, step := range steps {
				dst = step(dst, t)
			}
			return dst, text
		}, nil
	}
}

func started(r *record) (time.Time, bool) { return r.Start, true }

func now(*record) (time.Time, bool) { return time.Now(), true }

// appendTime writes the default format by hand: it is in every log line.
func appendTime(dst []byte, t time.Time) []byte {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = digits(dst, year, 4)
	dst = digits(append(dst, '-'), int(month), 2)
	dst = digits(append(dst, '-'), day, 2)
	dst = digits(append(dst, 'T'), hour, 2)
	dst = digits(append(dst, ':'), minute, 2)
	dst = digits(append(dst, ':'), second, 2)
	dst = digits(append(dst, '.'), t.Nanosecond()/1e6, 3)
	return append(dst, 'Z')
}

// digits appends v with at least n digits.
func digits(dst []byte, v, n int) []byte {
	for limit := pow10(n - 1); limit > 1 && v < limit; limit /= 10 {
		dst = append(dst, '0')
	}
	return strconv.AppendInt(dst, int64(v), 10)
}

func pow10(n int) int {
	p := 1
	for range n {
		p *= 10
	}
	return p
}

type timeStep func([]byte, time.Time) []byte

// strftime conversions that are one of Go's layouts.
var goLayouts = map[byte]string{
	'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'y': "06", 'b': "Jan", 'h': "Jan", 'B': "January",
	'a': "Mon", 'A': "Monday", 'e': "_2", 'I': "03", 'p': "PM", 'Z': "MST", 'z': "-0700", 'F': "2006-01-02", 'T': "15:04:05",
	'R': "15:04", 'D': "01/02/06", 'c': "Mon Jan _2 15:04:05 2006", 'j': "002",
}

func compileTime(layout string) ([]timeStep, error) {
	var steps []timeStep
	literalStep := func(s string) {
		steps = append(steps, func(dst []byte, _ time.Time) []byte { return append(dst, s...) })
	}
	for layout != "" {
		i := strings.IndexByte(layout, '%')
		if i < 0 {
			literalStep(layout)
			break
		}
		if i > 0 {
			literalStep(layout[:i])
		}
		layout = layout[i+1:]
		step, n := timeConversion(layout)
		if step == nil {
			return nil, fmt.Errorf("time format %%%s is not supported", firstRunes(layout, 3))
		}
		steps = append(steps, step)
		layout = layout[n:]
	}
	return steps, nil
}

func firstRunes(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// timeConversion reads one conversion behind its percent sign.
func timeConversion(s string) (timeStep, int) {
	if s == "" {
		return nil, 0
	}
	if l, ok := goLayouts[s[0]]; ok {
		return func(dst []byte, t time.Time) []byte { return t.AppendFormat(dst, l) }, 1
	}
	switch c := s[0]; {
	case c == '%':
		return func(dst []byte, _ time.Time) []byte { return append(dst, '%') }, 1
	case c == 's':
		return func(dst []byte, t time.Time) []byte { return strconv.AppendInt(dst, t.Unix(), 10) }, 1
	case c == 'f':
		return fraction(9), 1
	case c >= '1' && c <= '9' && len(s) > 1 && s[1] == 'f':
		return fraction(int(c - '0')), 2
	case c == 'E' && len(s) > 2 && s[1] >= '0' && s[1] <= '9' && s[2] == 'S':
		if s[1] == '0' {
			return func(dst []byte, t time.Time) []byte { return digits(dst, t.Second(), 2) }, 3
		}
		rest := fraction(int(s[1] - '0'))
		return func(dst []byte, t time.Time) []byte {
			return rest(append(digits(dst, t.Second(), 2), '.'), t)
		}, 3
	case strings.HasPrefix(s, "E4Y"):
		return func(dst []byte, t time.Time) []byte { return digits(dst, t.Year(), 4) }, 3
	case strings.HasPrefix(s, "Ez"):
		return func(dst []byte, t time.Time) []byte { return t.AppendFormat(dst, "-07:00") }, 2
	case strings.HasPrefix(s, "ET"):
		return func(dst []byte, _ time.Time) []byte { return append(dst, 'T') }, 2
	}
	return nil, 0
}

// fraction is the first n digits of the second's fraction.
func fraction(n int) timeStep {
	unit := pow10(9 - n)
	return func(dst []byte, t time.Time) []byte { return digits(dst, t.Nanosecond()/unit, n) }
}
