package cluster

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// ended is a connection that its peer has closed already, as one does that does not like the client's certificate.
type ended struct{}

func (ended) Read([]byte) (int, error)          { return 0, io.EOF }
func (ended) Write([]byte) (int, error)         { return 0, io.ErrClosedPipe }
func (ended) CloseWrite() error                 { return nil }
func (ended) Close() error                      { return nil }
func (ended) Reset(message.ResetCode)           {}
func (ended) OnReset(func(*message.ResetError)) {}

// A connection that has ended before it came into the pool does not stay there.
func TestPoolForgetsConnectionsThatEndAtOnce(t *testing.T) {
	m := NewManager(Options{})
	defer m.Close()
	p := newPool(m)
	for range 2000 {
		if s, err := p.open(context.Background(), "k", func(context.Context) (message.Conn, error) { return ended{}, nil }, poolConfig{}); err == nil {
			s.Reset(message.Cancel)
		}
	}
	for end := time.Now().Add(2 * time.Second); p.Conns() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d dead connections are in the pool", p.Conns())
		}
	}
}
