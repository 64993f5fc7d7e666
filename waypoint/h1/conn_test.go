package h1

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// tcp is a real TCP connection as a message.Conn and a Poller.
type tcp struct {
	*net.TCPConn
	step int // if not 0, at most so many bytes are read at once
	mu   sync.Mutex
	gone func(*message.ResetError)
}

func (t *tcp) Read(p []byte) (int, error) {
	if t.step > 0 && len(p) > t.step {
		p = p[:t.step]
	}
	return t.TCPConn.Read(p)
}

func (t *tcp) Close() error { return t.TCPConn.Close() }

func (t *tcp) Reset(message.ResetCode) {
	_ = t.SetLinger(0)
	_ = t.TCPConn.Close()
}

func (t *tcp) OnReset(f func(*message.ResetError)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone = f
}

// reset does what an HTTP/2 engine does when RST_STREAM comes.
func (t *tcp) reset(e *message.ResetError) {
	t.mu.Lock()
	f := t.gone
	t.gone = nil
	t.mu.Unlock()
	f(e)
}

func (t *tcp) Readable() bool { return Poll(t.TCPConn) }

// pair is a connection: our side and the peer's.
func pair(t testing.TB) (*tcp, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close(); _ = ours.Close() })
	return &tcp{TCPConn: ours.(*net.TCPConn)}, peer.(*net.TCPConn)
}

// tape is a connection in memory, for benchmarks and fuzzing: it reads in, and counts writes into out.
type tape struct {
	in     []byte
	step   int
	out    []byte
	writes int
	ended  bool
	reset  bool
}

func (c *tape) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	if c.step > 0 && len(p) > c.step {
		p = p[:c.step]
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *tape) Write(p []byte) (int, error) {
	c.writes++
	c.out = append(c.out, p...)
	return len(p), nil
}

func (c *tape) CloseWrite() error                 { c.ended = true; return nil }
func (c *tape) Close() error                      { c.ended = true; return nil }
func (c *tape) Reset(message.ResetCode)           { c.reset = true }
func (c *tape) OnReset(func(*message.ResetError)) {}
