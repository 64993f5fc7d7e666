package h2

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// A peer that breaks the protocol and has more under way is told why and then sees the end, instead of a reset that takes the
// GOAWAY away from it: on a socket and in a tunnel.
func TestGoAwayIsFollowedByTheEnd(t *testing.T) {
	serve := func(rw io.ReadWriteCloser) { _ = NewServer(rw, Options{}, echo).Serve() }
	broken := appendSettings([]byte(preface))
	broken = append(broken, 0, 0, 8, byte(frameData), 0, 0, 0, 0, 0) // DATA on stream 0
	broken = append(broken, make([]byte, 48<<10)...)                 // more than one read takes

	t.Run("socket", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		go func() {
			if c, err := l.Accept(); err == nil {
				time.Sleep(20 * time.Millisecond) // so that all of it lies there
				serve(c)
			}
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := c.Write(broken); err != nil {
			t.Fatal(err)
		}
		wantGoAwayAndEnd(t, c)
	})
	t.Run("tunnel", func(t *testing.T) {
		_, client := pair(t, Options{}, Options{}, func(s *Stream) {
			readHead(t, s)
			_ = s.WriteHead(ok(), false)
			time.Sleep(20 * time.Millisecond)
			serve(s.Tunnel())
		})
		s := open(t, client, connectHead(), false)
		reset := make(chan *message.ResetError, 1)
		s.OnReset(func(e *message.ResetError) { reset <- e })
		readHead(t, s)
		if _, err := s.Write(broken); err != nil {
			t.Fatal(err)
		}
		wantGoAwayAndEnd(t, s)
		_ = s.CloseWrite(nil)
		eventually(t, "the stream has ended", func() bool { return client.ActiveStreams() == 0 })
		select {
		case e := <-reset:
			t.Error("a reset:", e)
		default:
		}
	})
}

func wantGoAwayAndEnd(t *testing.T, r io.Reader) {
	t.Helper()
	f := http2.NewFramer(io.Discard, r)
	told := false
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			if !told || !errors.Is(err, io.EOF) {
				t.Errorf("it ended with %v, GOAWAY %v", err, told)
			}
			return
		}
		if g, ok := frame.(*http2.GoAwayFrame); ok {
			told = message.ResetCode(g.ErrCode) == message.ProtocolError
		}
	}
}
