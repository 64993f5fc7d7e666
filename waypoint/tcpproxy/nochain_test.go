package tcpproxy

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// resets is a tunnel that only learns whether it was reset.
type resets struct {
	message.Conn
	codes []message.ResetCode
}

func (r *resets) Reset(c message.ResetCode) { r.codes = append(r.codes, c) }

// The chain may go between the moment at which a tunnel was dispatched to it and the session's own look at it.
func TestChainThatIsGoneWhenTheSessionBegins(t *testing.T) {
	env := &Env{Peer: func(netip.Addr) *telemetry.Peer { return nil }, Logger: slog.Default()}
	down := &resets{}
	env.New(down, &filter.Conn{}, func() *program.Chain { return nil }).Serve(nil)
	if len(down.codes) != 1 || env.Stats.Denied.Load() != 1 || env.Stats.Active.Load() != 0 {
		t.Errorf("resets %v, denied %d, active %d", down.codes, env.Stats.Denied.Load(), env.Stats.Active.Load())
	}
}
