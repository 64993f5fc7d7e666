package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Window is when a run measures.
type Window struct {
	Warm    time.Duration // of load before
	Measure time.Duration
	// Begin and End are called at the borders, while the load goes on; nil: not.
	Begin, End func()
}

// Result is what was measured inside the window.
type Result struct {
	Requests uint64
	Elapsed  time.Duration
	Latency  *Histogram
	// Late (open loop only) is how long after it was due each request was handed to its tunnel: the part of Latency that is the
	// generator's.
	Late *Histogram
}

// Rate is the number of requests per second.
func (r *Result) Rate() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

const (
	warming = iota
	measuring
	stopped
)

// run is what the goroutines of one run share.
type run struct {
	phase   atomic.Int32
	latency Histogram
	late    Histogram
	failed  chan error // holds the first
	workers sync.WaitGroup
}

func newRun() *run { return &run{failed: make(chan error, 1)} }

func (r *run) fail(err error) {
	select {
	case r.failed <- err:
	default:
	}
}

func (r *run) going() bool { return r.phase.Load() != stopped }

func (r *run) record(h *Histogram, d time.Duration) {
	if r.phase.Load() == measuring {
		h.Add(d)
	}
}

// worker runs step until the run stops or step fails.
func (r *run) worker(step func() error) {
	r.workers.Go(func() {
		for r.going() {
			if err := step(); err != nil {
				if r.going() || !errors.Is(err, errStopped) {
					r.fail(err)
				}
				return
			}
		}
	})
}

var errStopped = errors.New("the run has stopped")

// drive takes a run through its phases, and waits for what is still under way.
func (r *run) drive(ctx context.Context, w Window) (*Result, error) {
	err := r.wait(ctx, w.Warm)
	if w.Begin != nil {
		w.Begin()
	}
	r.phase.CompareAndSwap(warming, measuring)
	began := time.Now()
	if err == nil {
		err = r.wait(ctx, w.Measure)
	}
	r.phase.Store(stopped)
	elapsed := time.Since(began)
	if w.End != nil {
		w.End()
	}
	return &Result{Requests: r.latency.Count(), Elapsed: elapsed, Latency: &r.latency, Late: &r.late}, errors.Join(err, r.finish())
}

func (r *run) wait(ctx context.Context, d time.Duration) error {
	select {
	case err := <-r.failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// finish waits until the workers have ended, but not for ever.
func (r *run) finish() error {
	ended := make(chan struct{})
	go func() {
		r.workers.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(Patience):
		return fmt.Errorf("requests without an answer after %v", Patience)
	}
	select {
	case err := <-r.failed:
		return err
	default:
		return nil
	}
}

// Closed runs a closed loop: every tunnel sends r again as soon as it has its answer.
func Closed(ctx context.Context, tunnels []*Tunnel, r *Request, w Window) (*Result, error) {
	run := newRun()
	for _, t := range tunnels {
		run.worker(func() error {
			began := time.Now()
			if err := t.Do(r); err != nil {
				return err
			}
			run.record(&run.latency, time.Since(began))
			return nil
		})
	}
	return run.drive(ctx, w)
}

// Churn runs a closed loop in which every request has a tunnel of its own: CONNECT, one request, end of both sides. Each
// connection has so many at a time.
func Churn(ctx context.Context, conns []*Conn, each int, r *Request, w Window) (*Result, error) {
	run := newRun()
	for _, c := range conns {
		for range each {
			run.worker(func() error {
				began := time.Now()
				t, err := c.Tunnel()
				if err != nil {
					return err
				}
				if err := errors.Join(t.Do(r), t.Close()); err != nil {
					return err
				}
				run.record(&run.latency, time.Since(began))
				return nil
			})
		}
	}
	return run.drive(ctx, w)
}

// Once sends r once on every tunnel, all at the same time, and takes the answers. It has no warm-up; Window.Measure is how long
// it may take.
func Once(ctx context.Context, tunnels []*Tunnel, r *Request, w Window) (*Result, error) {
	run := newRun()
	run.phase.Store(measuring)
	if w.Begin != nil {
		w.Begin()
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, w.Measure)
	defer cancel()
	for _, t := range tunnels {
		run.workers.Go(func() {
			stop := context.AfterFunc(ctx, t.Reset)
			defer stop()
			began := time.Now()
			if err := t.Do(r); err != nil {
				run.fail(err)
				return
			}
			run.record(&run.latency, time.Since(began))
		})
	}
	run.workers.Wait()
	elapsed := time.Since(began)
	if w.End != nil {
		w.End()
	}
	return &Result{Requests: run.latency.Count(), Elapsed: elapsed, Latency: &run.latency}, run.finish()
}

// DialAll opens n connections, one after the other.
func DialAll(ctx context.Context, t Target, n int) ([]*Conn, error) {
	conns := make([]*Conn, 0, n)
	for range n {
		c, err := Dial(ctx, t)
		if err != nil {
			CloseAll(conns)
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// CloseAll ends connections.
func CloseAll(conns []*Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// atATime is how many requests are under way while tunnels are opened, or asked one by one. Envoy opens an upstream connection
// for each new tunnel of a burst as long as it has none with room, and never gives them back.
const atATime = 4

// Tunnels opens so many tunnels on each connection and sends r once on each, few at a time.
func Tunnels(ctx context.Context, conns []*Conn, each int, r *Request) ([]*Tunnel, error) {
	var mu sync.Mutex
	all := make([]*Tunnel, 0, len(conns)*each)
	err := fewAtATime(ctx, conns, func(ctx context.Context, c *Conn) error {
		for range each {
			t, err := c.Tunnel()
			if err != nil {
				return err
			}
			if err := t.Do(r); err != nil {
				return err
			}
			mu.Lock()
			all = append(all, t)
			mu.Unlock()
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		return nil
	})
	return all, err
}

// Each sends r once on every tunnel, few at a time.
func Each(ctx context.Context, tunnels []*Tunnel, r *Request) error {
	return fewAtATime(ctx, tunnels, func(_ context.Context, t *Tunnel) error { return t.Do(r) })
}

// fewAtATime calls f for all items, and stops at the first error.
func fewAtATime[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(atATime)
	for _, item := range items {
		if inner.Err() != nil {
			break
		}
		g.Go(func() error { return f(inner, item) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}
