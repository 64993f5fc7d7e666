package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// A fourth host that comes later gets a tenth of its share at first, half of it after half of the window, and all of it then.
func TestSlowStart(t *testing.T) {
	for _, policy := range []program.LBPolicy{program.RoundRobin, program.LeastRequest} {
		synctest.Test(t, func(t *testing.T) {
			m := NewManager(Options{})
			defer m.Close()
			lb := program.LB{Policy: policy, SlowStart: &program.SlowStart{Window: time.Minute, Aggression: 1, MinWeight: 0.1}}
			push := func(hosts int) {
				m.Update(&program.Program{Clusters: map[string]*program.Cluster{"c": {Name: "c", Endpoints: many(hosts), LB: lb}}})
			}
			push(3)
			time.Sleep(2 * time.Minute)
			push(4)
			c := m.Get("c")
			for _, want := range []float64{0.1 / 3.1, 0.5 / 3.5, 1.0 / 4} {
				if s := share(t, c, 20000)["10.0.0.4:80"]; s < want-0.02 || s > want+0.02 {
					t.Errorf("policy %d: the new host gets %.3f, want %.3f", policy, s, want)
				}
				time.Sleep(30 * time.Second)
			}
		})
	}
}

// When all hosts are new they share alike.
func TestSlowStartOfAll(t *testing.T) {
	_, c := single(t, &program.Cluster{Endpoints: many(3),
		LB: program.LB{SlowStart: &program.SlowStart{Window: time.Hour, Aggression: 2, MinWeight: 0.1}}})
	for k, s := range share(t, c, 9000) {
		if !near(s, 1.0/3) {
			t.Errorf("%s gets %.2f", k, s)
		}
	}
}
