package h2

import (
	"io"
	"strings"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// The handlers of the fixtures.

func (f *fixture) handle(s *Stream) {
	s.recv.mu.Lock()
	h := s.recv.head
	parks := h.Method == "CONNECT" || h.Upgrade != "" || h.Path == "/echo" || h.Path == "/wait" || h.Path == "/never-read"
	s.recv.mu.Unlock()
	if parks {
		f.parked.Add(1)
		defer f.parked.Add(-1)
	}
	fixtureHandler(s)
}

// fixtureHandler does what the path says.
func fixtureHandler(s *Stream) {
	var h message.Head
	_, err := s.ReadHead(&h)
	if err != nil {
		return
	}
	answer := ok()
	switch {
	case h.Method == "CONNECT":
		echo2(s, answer)
	case h.Upgrade != "":
		answer.Status = 101
		answer.Fields.Append("x-saw", h.Method+" "+h.Upgrade)
		echo2(s, answer)
	case h.Path == "/echo":
		echo2(s, answer)
	case h.Path == "/wait":
		_, _ = io.Copy(io.Discard, s)
		<-s.c.Done()
	case h.Path == "/never-read":
		<-s.c.Done()
	case h.Path == "/early": // an answer before the request is whole
		_ = s.WriteHead(answer, true)
	case h.Path == "/panic":
		panic("as asked")
	case strings.HasPrefix(h.Path, "/saw"):
		list := []string{h.Method, h.Scheme, h.Authority, h.Path}
		for _, e := range h.Fields.All() {
			list = append(list, e.Name+"="+e.Value)
		}
		answer.Fields.Append("x-saw", strings.Join(list, " "))
		_ = s.WriteHead(answer, true)
	default:
		_ = s.WriteHead(answer, true)
	}
}

func echo2(s *Stream, answer *message.Head) {
	_ = s.WriteHead(answer, false)
	_, _ = io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s})
	_ = s.CloseWrite(s.Trailer())
}
