package message

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestHeadAnswersForPseudoHeaders(t *testing.T) {
	h := &Head{Method: "GET", Scheme: "http", Authority: "Host:80", Path: "/a?b"}
	h.Fields.Append("x-a", "1")
	h.Fields.Append("x-a", "2")
	for name, want := range map[string]string{":method": "GET", ":scheme": "http", ":authority": "Host:80", "host": "Host:80", ":path": "/a?b", "x-a": "1"} {
		if v, ok := h.Get(name); !ok || v != want {
			t.Errorf("%s: %q %v", name, v, ok)
		}
	}
	if v, _ := h.Nth("x-a", 1); v != "2" {
		t.Errorf("second line: %q", v)
	}
	for _, name := range []string{":status", ":protocol", "x-b"} {
		if _, ok := h.Get(name); ok {
			t.Errorf("%s is not there", name)
		}
	}
	if _, ok := h.Nth(":path", 1); ok {
		t.Error("there is one path")
	}

	var c Head
	c.CopyFrom(h)
	h.Fields.SetName("x-a", "3")
	h.Reset()
	if v, _ := c.Get("x-a"); v != "1" || c.Path != "/a?b" || h.Method != "" || h.Fields.Len() != 0 {
		t.Errorf("a copy is its own: %+v %+v", c, h)
	}
}

// What may be sent again is what nobody looked at.
func TestRefused(t *testing.T) {
	for want, e := range map[bool][]*ResetError{
		true:  {{Code: RefusedStream, Remote: true}, {Code: RefusedStream, Lost: true}},
		false: {{Code: RefusedStream}, {Code: Cancel, Remote: true}, {Lost: true, Cause: io.EOF}},
	} {
		for _, r := range e {
			if r.Refused() != want {
				t.Errorf("%v: %v", r, !want)
			}
		}
	}
	err := fmt.Errorf("outer: %w", &ResetError{Lost: true, Cause: io.ErrUnexpectedEOF})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
	if AsMalformed(fmt.Errorf("x: %w", &Malformed{Status: 400})).Status != 400 || AsMalformed(err) != nil {
		t.Error("AsMalformed")
	}
}

func TestInformational(t *testing.T) {
	for status, want := range map[int]bool{99: false, 100: true, 101: false, 103: true, 199: true, 200: false} {
		if (&Head{Status: status}).Informational() != want {
			t.Errorf("%d", status)
		}
	}
}
