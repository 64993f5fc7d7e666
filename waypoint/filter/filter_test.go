package filter

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

func TestStateUpstream(t *testing.T) {
	var outer, inner, next State
	outer.Set("none", "1", NotShared)
	outer.Set("once", "2", NotShared)
	outer.Set("once", "3", Once)
	outer.Set("all", "4", Transitive)
	outer.Set("gone", "5", Transitive)
	outer.Delete("gone")
	inner.Set("left from before", "6", Transitive)
	outer.Upstream(&inner)
	inner.Upstream(&next)
	for _, c := range []struct {
		s         *State
		key, want string
	}{
		{&outer, "none", "1"}, {&outer, "gone", "-"},
		{&inner, "none", "-"}, {&inner, "once", "3"}, {&inner, "all", "4"}, {&inner, "gone", "-"}, {&inner, "left from before", "-"},
		{&next, "once", "-"}, {&next, "all", "4"},
	} {
		got, ok := c.s.Get(c.key)
		if !ok {
			got = "-"
		}
		if got != c.want {
			t.Errorf("%s is %q, want %q", c.key, got, c.want)
		}
	}
}

func TestFilterStateLooksAtTheRequestFirst(t *testing.T) {
	x := Exchange{Conn: &Conn{}}
	x.Conn.State.Set("k", "connection", NotShared)
	if v, _ := x.FilterState("k"); v != "connection" {
		t.Errorf("%q", v)
	}
	x.State.Set("k", "", NotShared)
	if v, ok := x.FilterState("k"); v != "" || !ok {
		t.Errorf("%q, %v: the request's value, though empty, comes first", v, ok)
	}
}

func TestMetadataIsEmptyAfterReset(t *testing.T) {
	var m Metadata
	m.Set("a", "k", structpb.NewStringValue("v"))
	m.Merge("a", &structpb.Struct{Fields: map[string]*structpb.Value{"s": structpb.NewStructValue(&structpb.Struct{
		Fields: map[string]*structpb.Value{"deep": structpb.NewNumberValue(1)}})}})
	if m.Get("a", "k").GetStringValue() != "v" || m.Get("a", "s", "deep").GetNumberValue() != 1 || m.Get("a", "k", "no") != nil {
		t.Errorf("%v", m.Struct("a"))
	}
	if m.Get("a").GetStructValue() != m.Struct("a") || m.Struct("b") != nil {
		t.Error("an empty path asks for the whole struct")
	}
	m.Reset()
	if m.Get("a", "k") != nil || m.Get("a") != nil || m.Struct("a") != nil {
		t.Errorf("after Reset: %v", m.Struct("a"))
	}
	for _, ns := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"} {
		m.SetString(ns, "k", "v")
	}
	m.Reset()
	if len(m.byNamespace) != 0 {
		t.Errorf("%d namespaces are kept", len(m.byNamespace))
	}
}

func TestLocals(t *testing.T) {
	type owner struct{ name string }
	a, b := &owner{"a"}, &owner{"b"}
	var x Exchange
	x.SetLocal(a, 1)
	x.SetLocal(b, 2)
	x.SetLocal(a, 3)
	if x.Local(a) != 3 || x.Local(b) != 2 {
		t.Errorf("%v, %v", x.Local(a), x.Local(b))
	}
	x.SetLocal(a, nil)
	x.SetLocal(a, nil)
	if x.Local(a) != nil || x.Local(b) != 2 {
		t.Errorf("%v, %v", x.Local(a), x.Local(b))
	}
	x.SetLocal(b, nil)
	if len(x.locals) != 0 {
		t.Error("something is left")
	}
}

// peer is a connection whose peer may give up.
type peer struct{ gone func(*message.ResetError) }

func (p *peer) OnReset(f func(*message.ResetError)) { p.gone = f }

// A denial holds the connection for its time, but not when its peer has left.
func TestDenialHolds(t *testing.T) {
	p := &peer{}
	start := time.Now()
	(&Denial{Delay: 30 * time.Millisecond}).Hold(p)
	if took := time.Since(start); took < 30*time.Millisecond {
		t.Errorf("held for %v", took)
	}
	if p.gone != nil {
		t.Error("it still listens")
	}
	held := make(chan struct{})
	listens := make(chan func(*message.ResetError), 2)
	go func() {
		(&Denial{Delay: time.Hour}).Hold(resets(listens))
		close(held)
	}()
	(<-listens)(nil)
	<-held
	(&Denial{}).Hold(nil) // at once, whatever the connection
}

// resets hands out what listens for the peer's end.
type resets chan func(*message.ResetError)

func (r resets) OnReset(f func(*message.ResetError)) { r <- f }

func TestReplyIsTakenOnce(t *testing.T) {
	var x Exchange
	if x.Reply(Reply{Status: 403}) != Stop || x.TakeReply().Status != 403 || x.TakeReply().Status != 0 {
		t.Error("a reply must end the request, once")
	}
}
