package differential

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/e2e/differential/gen"
	"github.com/gowaypoint/gowaypoint/e2e/differential/oracle"
	"github.com/gowaypoint/gowaypoint/e2e/differential/pair"
	"github.com/gowaypoint/gowaypoint/e2e/differential/reference"
)

const (
	setsPerLoad    = 400 // one route configuration of Envoy's
	requestsPerSet = 50
	connsPerLoad   = 32 // each of other addresses, to one of the listeners
	asking         = 16 // connections at a time; Envoy has one worker
)

// Failure is a pair on which authz and Envoy differ, without a deliberate reason.
type Failure struct {
	Set     *pair.Set
	Request *pair.Request
	Conn    *pair.Conn
	What    string
}

// Report counts pairs.
type Report struct {
	Pairs, Sets int
	// Denied and Named count the pairs that Envoy denied, and those for which it named a policy.
	Denied, Named int
	// Malformed counts, by Envoy's reason, the requests that it did not let come to its filters.
	Malformed map[string]int
	// Explained counts pairs with a deliberate difference.
	Explained map[oracle.Exception]int
	// Failures are the first that were met; Failed is how many there were.
	Failures []Failure
	Failed   int

	mu sync.Mutex
}

func newReport() *Report {
	return &Report{Malformed: map[string]int{}, Explained: map[oracle.Exception]int{}}
}

// keep is how many failures a report has.
const keep = 8

// HTTP compares pairs over HTTP, at least as many as asked for.
func HTTP(ctx context.Context, e *reference.Envoy, seed uint64, pairs int) (*Report, error) {
	r := newReport()
	for load := uint64(0); r.Pairs < pairs && r.Failed < keep; load++ {
		sets, compiled, err := makeSets(seed, load, false)
		if err != nil {
			return r, err
		}
		if err := e.Load(ctx, sets); err != nil {
			return r, fmt.Errorf("seed %d, load %d: %w", seed, load, err)
		}
		r.Sets += len(sets)
		if err := r.ask(ctx, e, seed, load, sets, compiled); err != nil {
			return r, err
		}
	}
	return r, nil
}

// TCP compares TCP sessions with network filters, at least as many as asked for.
func TCP(ctx context.Context, seed uint64, pairs int) (*Report, error) {
	r := newReport()
	for load := uint64(0); r.Pairs < pairs && r.Failed < keep; load++ {
		sets, compiled, err := makeSets(^seed, load, true)
		if err != nil {
			return r, err
		}
		w := gen.New(^seed, ^load)
		var sessions []reference.Session
		perSet := min(requestsPerSet, (pairs-r.Pairs)/setsPerLoad+1)
		for i, s := range sets {
			for _, request := range w.Requests(s, perSet) {
				sessions = append(sessions, reference.Session{Set: i, Conn: w.Conn(nil), Request: request})
			}
		}
		answers, err := reference.TCP(ctx, sets, sessions)
		if err != nil {
			return r, fmt.Errorf("seed %d, load %d: %w", seed, load, err)
		}
		r.Sets += len(sets)
		for i, s := range sessions {
			view, _ := s.Request.View(s.Conn, 0)
			r.compare(sets[s.Set], compiled[s.Set], s.Request, s.Conn, view, answers[i])
		}
	}
	return r, nil
}

// makeSets makes the sets of one load: half of them by each generator.
func makeSets(seed, load uint64, network bool) ([]*pair.Set, []*pair.Compiled, error) {
	var sets []*pair.Set
	var compiled []*pair.Compiled
	for i := range uint64(setsPerLoad) {
		w := gen.New(seed, load*setsPerLoad+i)
		var s *pair.Set
		origin := "RBAC"
		if i%2 == 0 {
			s = w.Raw(network)
		} else {
			origin = "AuthorizationPolicy"
			var err error
			if s, err = w.Istio(network); err != nil {
				return nil, nil, fmt.Errorf("seed %d, load %d, set %d: %w", seed, load, i, err)
			}
		}
		s.Origin = fmt.Sprintf("%s, seed %d, load %d, set %d", origin, seed, load, i)
		c, err := s.Compile()
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", s.Origin, err)
		}
		sets, compiled = append(sets, s), append(compiled, c)
	}
	return sets, compiled, nil
}

func (r *Report) ask(ctx context.Context, e *reference.Envoy, seed, load uint64, sets []*pair.Set, compiled []*pair.Compiled) error {
	w := gen.New(seed, ^load)
	conns := make([]*pair.Conn, connsPerLoad)
	questions := make([][]reference.Question, connsPerLoad)
	for i := range conns {
		conns[i] = w.Conn(&pair.Listeners[w.IntN(len(pair.Listeners))])
	}
	for i, s := range sets {
		for _, request := range w.Requests(s, requestsPerSet) {
			k := w.IntN(connsPerLoad)
			questions[k] = append(questions[k], reference.Question{Set: i, Request: request})
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(asking)
	for k, c := range conns {
		port := e.Port(c.Listener)
		group.Go(func() error {
			return e.Ask(ctx, c, questions[k], func(q reference.Question, reply *reference.Reply) {
				r.check(c, port, sets[q.Set], compiled[q.Set], q.Request, reply)
			})
		})
	}
	return group.Wait()
}

// check compares one pair.
func (r *Report) check(c *pair.Conn, port uint16, s *pair.Set, compiled *pair.Compiled, request *pair.Request, reply *reference.Reply) {
	fail := func(what string) { r.fail(s, request, c, what) }
	view, ok := request.View(c, port)
	if why := reply.Malformed(); why != "" {
		r.count(func() { r.Malformed[why]++ })
		return
	}
	if !ok {
		fail("envoy takes a path that cannot be normalised")
		return
	}
	if unlike := reply.Unlike(view); unlike != "" {
		fail(unlike)
		return
	}
	envoy, err := reply.Answer()
	if err != nil {
		fail(err.Error())
		return
	}
	r.compare(s, compiled, request, c, view, envoy)
}

// compare counts a pair of which Envoy's answer is known.
func (r *Report) compare(s *pair.Set, compiled *pair.Compiled, request *pair.Request, c *pair.Conn, view *authz.Request, envoy pair.Answer) {
	explain := false
	r.count(func() { explain = r.Pairs%8 == 0 })
	because, difference := compare(s, compiled, view, envoy, explain)
	if difference != "" {
		r.fail(s, request, c, difference)
	}
	r.count(func() {
		r.Pairs++
		if !envoy.Allowed {
			r.Denied++
		}
		for _, f := range envoy.Filters {
			if f.Policy != "" || f.ShadowPolicy != "" {
				r.Named++
				break
			}
		}
		for e := range oracle.Exceptions {
			if because&e != 0 {
				r.Explained[e]++
			}
		}
	})
}

// fail keeps one failure of a set, since they are often the same.
func (r *Report) fail(s *pair.Set, request *pair.Request, c *pair.Conn, what string) {
	r.count(func() {
		if r.Failed++; len(r.Failures) < keep && (len(r.Failures) == 0 || r.Failures[len(r.Failures)-1].Set != s) {
			r.Failures = append(r.Failures, Failure{s, request, c, what})
		}
	})
}

func (r *Report) count(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// String is a few lines for people.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d pairs with %d sets: %d denied, %d with a policy named; %d differ without a reason\n", r.Pairs, r.Sets, r.Denied, r.Named, r.Failed)
	for e, name := range oracle.Exceptions {
		if n := r.Explained[e]; n > 0 {
			fmt.Fprintf(&b, "%8d differ deliberately: %s\n", n, name)
		}
	}
	for why, n := range r.Malformed {
		fmt.Fprintf(&b, "%8d more requests that Envoy's parser refused: %s\n", n, why)
	}
	return b.String()
}
