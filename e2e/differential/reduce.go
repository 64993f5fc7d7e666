package differential

import (
	"context"

	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
	"github.com/gowaypoint/gowaypoint/e2e/differential/reference"
	"github.com/gowaypoint/gowaypoint/e2e/differential/shrink"
)

// Shrink makes the failure's pair small: the smallest that was found on which authz and Envoy still differ on the same
// connection.
func (f *Failure) Shrink(ctx context.Context, e *reference.Envoy) error {
	p, err := shrink.Shrink(shrink.Pair{Set: f.Set, Request: f.Request}, setsPerLoad, func(candidates []shrink.Pair) (int, error) {
		i, what, err := firstFailure(ctx, e, f.Conn, candidates)
		if i >= 0 {
			f.What = what
		}
		return i, err
	})
	f.Set, f.Request = p.Set, p.Request
	return err
}

func firstFailure(ctx context.Context, e *reference.Envoy, c *pair.Conn, candidates []shrink.Pair) (int, string, error) {
	var sets []*pair.Set
	var questions []reference.Question
	compiled := make([]*pair.Compiled, len(candidates))
	for i, p := range candidates {
		var err error
		if compiled[i], err = p.Set.Compile(); err != nil {
			return -1, "", err
		}
		sets = append(sets, p.Set)
		questions = append(questions, reference.Question{Set: i, Request: p.Request})
	}
	if err := e.Load(ctx, sets); err != nil {
		return -1, "", err
	}
	first, what := -1, ""
	err := e.Ask(ctx, c, questions, func(q reference.Question, reply *reference.Reply) {
		r := newReport()
		r.check(c, e.Port(c.Listener), sets[q.Set], compiled[q.Set], q.Request, reply)
		if len(r.Failures) > 0 && first < 0 {
			first, what = q.Set, r.Failures[0].What
		}
	})
	return first, what, err
}

// Fixture tells of the failure in a form that can be pasted into authz/rbac's fixtures.
// listenPort is the port of the connection's listener.
func (f *Failure) Fixture(listenPort uint16) string {
	view, _ := f.Request.View(f.Conn, listenPort)
	return fixture(f.Set, f.Request, view)
}

// ShrinkTCP is Shrink for a TCP session. It starts an Envoy for each round.
func (f *Failure) ShrinkTCP(ctx context.Context) error {
	p, err := shrink.Shrink(shrink.Pair{Set: f.Set, Request: f.Request}, setsPerLoad, func(candidates []shrink.Pair) (int, error) {
		var sets []*pair.Set
		var sessions []reference.Session
		for i, p := range candidates {
			sets = append(sets, p.Set)
			sessions = append(sessions, reference.Session{Set: i, Conn: f.Conn, Request: p.Request})
		}
		answers, err := reference.TCP(ctx, sets, sessions)
		if err != nil {
			return -1, err
		}
		for i, p := range candidates {
			compiled, err := p.Set.Compile()
			if err != nil {
				return -1, err
			}
			r := newReport()
			view, _ := p.Request.View(f.Conn, 0)
			if r.compare(p.Set, compiled, p.Request, f.Conn, view, answers[i]); len(r.Failures) > 0 {
				f.What = r.Failures[0].What
				return i, nil
			}
		}
		return -1, nil
	})
	f.Set, f.Request = p.Set, p.Request
	return err
}
