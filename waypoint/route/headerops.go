package route

import (
	"strings"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/message"
)

// pending is a field that is about to be set or added.
type pending struct {
	add   *HeaderAdd
	value string
}

// apply removes, then overwrites, then appends. As in Envoy all values are made of the head as it was before the level's first
// addition, and an empty value adds nothing unless KeepEmpty. A value with a line break or a NUL, which an operator may bring
// from a JWT claim, is left out; Envoy would send it.
func (o *HeaderOps) apply(h *message.Head, rec *telemetry.Record) {
	for _, name := range o.Remove {
		h.Fields.DelName(name)
	}
	if len(o.Add) == 0 {
		return
	}
	var memory [8]pending
	todo := memory[:0]
	for i := range o.Add {
		a := &o.Add[i]
		v, _ := a.Value.Value(rec)
		if v == "" && !a.KeepEmpty || !safeValue(v) {
			continue
		}
		if a.Action == AddIfAbsent || a.Action == OverwriteIfExists {
			if _, there := h.Fields.Get(a.Name); there != (a.Action == OverwriteIfExists) {
				continue
			}
		}
		todo = append(todo, pending{a, v})
	}
	for _, p := range todo {
		if p.add.Action == OverwriteOrAdd || p.add.Action == OverwriteIfExists {
			h.Fields.SetName(p.add.Name, p.value)
		}
	}
	for _, p := range todo {
		if p.add.Action == AppendOrAdd || p.add.Action == AddIfAbsent {
			h.Fields.Append(p.add.Name, p.value)
		}
	}
}

// safeValue tells whether a field's value can be sent in one line.
func safeValue(v string) bool { return !strings.ContainsAny(v, "\r\n\x00") }
