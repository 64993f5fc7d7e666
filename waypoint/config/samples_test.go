package config

import (
	"testing"
)

func TestSamplesCompileCompletely(t *testing.T) {
	p, rep := New(doubles()).Compile(samples(t))
	for _, r := range rep.Refusals {
		t.Errorf("refused: %s: %s", r.Resource, r.Reason)
	}
	for _, e := range rep.Entries {
		if e.Class > Inert {
			t.Errorf("%v: %s (%s = %s): %s", e.Class, e.Path, e.Resource, e.Example, e.Why)
		}
	}
	for _, n := range rep.Notes {
		t.Errorf("note: %s: %s", n.Resource, n.Text)
	}
	if len(p.Listeners) != 1 || p.Listeners[0].Name != "connect_terminate" || p.Listeners[0].TLS == nil {
		t.Fatalf("listeners: %+v", p.Listeners)
	}
	t.Logf("%d honoured, %d inert", rep.Counts[Honoured], rep.Counts[Inert])
}
