package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

func detection() *program.OutlierDetection {
	return &program.OutlierDetection{
		Consecutive5xx: 3, EnforceConsecutive5xx: 100, ConsecutiveGatewayFailure: 2, ConsecutiveLocalOriginFailure: 2, EnforceLocalOrigin: 100,
		Interval: 10 * time.Second, BaseEjectionTime: 30 * time.Second, MaxEjectionTime: 70 * time.Second, MaxEjectionPercent: 50,
	}
}

// clock runs f with a clock of its own and a cluster of four hosts.
func clock(t *testing.T, o *program.OutlierDetection, f func(m *Manager, c *Cluster)) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		m := NewManager(Options{})
		defer m.Close()
		m.Update(four(o))
		f(m, m.Get("c"))
	})
}

func four(o *program.OutlierDetection) *program.Program {
	return &program.Program{Clusters: map[string]*program.Cluster{"c": {Name: "c", Endpoints: many(4), Outlier: o}}}
}

func report(h *Host, outcomes ...Outcome) {
	for _, o := range outcomes {
		h.Report(o)
	}
}

func TestConsecutiveFailuresEject(t *testing.T) {
	split, gateway := detection(), detection()
	split.SplitLocalOrigin = true
	gateway.EnforceGatewayFailure, gateway.EnforceConsecutive5xx = 100, 0
	for _, tt := range []struct {
		name     string
		cfg      *program.OutlierDetection
		outcomes []Outcome
		want     bool
	}{
		{"three in a row", detection(), []Outcome{ServerError, GatewayError, ServerError}, true},
		{"two, and a good one, and two", detection(), []Outcome{ServerError, ServerError, Answered, ServerError, ServerError}, false},
		{"failures to connect are 503", detection(), []Outcome{ConnectFailed, TimedOut, ServerError}, true},
		{"a connection is no answer", detection(), []Outcome{ServerError, Connected, ServerError, Connected, ServerError}, true},
		{"a session is one", detection(), []Outcome{ConnectFailed, ConnectFailed, ConnectedFinal, ConnectFailed}, false},
		{"gateway errors alone", gateway, []Outcome{GatewayError, TimedOut}, true},
		{"gateway errors, interrupted", gateway, []Outcome{GatewayError, ServerError, GatewayError, ServerError, ServerError}, false},
		{"not enforced", gateway, []Outcome{ServerError, ServerError, ServerError, ServerError}, false},
		{"split: local failures", split, []Outcome{ConnectFailed, Answered, TimedOut}, true},
		{"split: a connection in between", split, []Outcome{ConnectFailed, Connected, TimedOut}, false},
		{"split: two local, two of the endpoint", split, []Outcome{ConnectFailed, ServerError, ServerError}, false},
		{"none configured", nil, []Outcome{ServerError, ServerError, ServerError, ServerError}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock(t, tt.cfg, func(_ *Manager, c *Cluster) {
				h := c.Hosts()[0]
				report(h, tt.outcomes...)
				if h.Ejected() != tt.want {
					t.Errorf("ejected: %v", h.Ejected())
				}
				if s := share(t, c, 200)[h.Key]; (s == 0) != tt.want {
					t.Errorf("picked: %.2f", s)
				}
			})
		})
	}
}

func TestOutcomeOf(t *testing.T) {
	for status, want := range map[int]Outcome{200: Answered, 404: Answered, 499: Answered, 500: ServerError, 501: ServerError,
		502: GatewayError, 503: GatewayError, 504: GatewayError, 599: ServerError} {
		if got := OutcomeOf(status); got != want {
			t.Errorf("%d: %d", status, got)
		}
	}
}

// Each ejection is longer than the one before it, up to the maximum; intervals without one take that back.
func TestEjectionTimeGrows(t *testing.T) {
	clock(t, detection(), func(_ *Manager, c *Cluster) {
		h := c.Hosts()[0]
		ejectedFor := func() time.Duration {
			report(h, ServerError, ServerError, ServerError)
			start := time.Now()
			for h.Ejected() {
				time.Sleep(time.Second)
			}
			return time.Since(start)
		}
		for i, want := range []time.Duration{30 * time.Second, 60 * time.Second, 70 * time.Second, 70 * time.Second} {
			if got := ejectedFor(); got < want || got > want+11*time.Second { // hosts come back at the next interval
				t.Errorf("ejection %d lasts %v, want %v", i+1, got, want)
			}
		}
		time.Sleep(time.Minute)
		if got := ejectedFor(); got > 41*time.Second {
			t.Errorf("after a good minute: %v", got)
		}
	})
}

func TestMaxEjectionPercent(t *testing.T) {
	clock(t, detection(), func(_ *Manager, c *Cluster) {
		n := 0
		for _, h := range c.Hosts() {
			report(h, ServerError, ServerError, ServerError)
			if h.Ejected() {
				n++
			}
		}
		if n != 2 || c.Stats.Ejections.Load() != 2 || c.Stats.EjectionsOverflow.Load() != 2 {
			t.Errorf("%d of four ejected, at most half may be", n)
		}
	})
}

// A push keeps ejections and failures so far; one that takes outlier detection away brings everybody back.
func TestEjectionOutlivesAPush(t *testing.T) {
	clock(t, detection(), func(m *Manager, c *Cluster) {
		h, other := c.Hosts()[0], c.Hosts()[1]
		report(h, ServerError, ServerError, ServerError)
		report(other, ServerError, ServerError)
		m.Update(four(detection()))
		if c.Hosts()[0] != h || !h.Ejected() || share(t, c, 200)[h.Key] != 0 {
			t.Error("the push brought it back")
		}
		report(other, ServerError)
		if !other.Ejected() {
			t.Error("the push forgot what had failed")
		}
		m.Update(four(nil))
		if h.Ejected() || share(t, c, 200)[h.Key] == 0 {
			t.Error("ejected without outlier detection")
		}
		time.Sleep(time.Hour) // the timer finds nothing to do
	})
}
