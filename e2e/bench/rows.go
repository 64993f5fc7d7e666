package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/bench/backend"
	"github.com/gowaypoint/gowaypoint/e2e/bench/load"
	"github.com/gowaypoint/gowaypoint/e2e/bench/mesh"
	"github.com/gowaypoint/gowaypoint/e2e/bench/subject"
)

// Row is one kind of load.
type Row struct {
	Name   string
	What   string // for people
	Policy mesh.Policy
	// Extra rows are run only if they are asked for.
	Extra bool

	run func(context.Context, *session) error
}

// Names of the rows that limits are set for.
const (
	RowBusy = "4x99"
	RowIdle = "idle-9900"
)

// Rows returns all rows.
func Rows() []Row {
	rows := []Row{
		{Name: "1x1", What: "closed loop, 1 connection × 1 tunnel", run: closed(1, 1)},
		{Name: "2x50", What: "closed loop, 2 connections × 50 tunnels", run: closed(2, 50)},
		{Name: RowBusy, What: "closed loop, 4 connections × 99 tunnels", run: closed(4, 99)},
		{Name: "open-5000", What: "open loop, 5,000 requests/s over 8 × 50", run: open(8, 50, 5000)},
		{Name: "churn", What: "a new tunnel for each request, 2 × 25 at a time", run: churn(2, 25)},
		{Name: RowIdle, What: "100 connections × 99 tunnels, one request on each, then idle", run: idle(100, 99)},
		{Name: "bodies-1MiB", What: "closed loop, bodies of 1 MiB, 2 connections × 8 tunnels", run: bodies(2, 8, 1<<20)},
		{Name: "downloads", What: "eight bodies of 150 MB at once", run: downloads(8, 150_000_000, 0)},
		{Name: "downloads-slow", What: "eight bodies of 150 MB at once, each read at 25 MB/s", run: downloads(8, 150_000_000, 25_000_000)},
	}
	// Few at a time: Envoy takes milliseconds for one request at 10,000 policies, and whole batches of answers would fall into a
	// window or out of it.
	for _, n := range []int{1, 100, 1000, 10_000} {
		rows = append(rows, Row{
			Name: "policies-" + strconv.Itoa(n), What: fmt.Sprintf("closed loop, 2 × 5, %d policies by method, path and client, of which the last matches", n),
			Policy: mesh.Policy{Count: n, Principal: true}, Extra: true, run: closed(2, 5),
		})
	}
	return rows
}

// SelectRows returns the rows with these names (separated by commas), or all that are not extra for "".
func SelectRows(names string) ([]Row, error) {
	var out []Row
	if names == "" {
		for _, r := range Rows() {
			if !r.Extra {
				out = append(out, r)
			}
		}
		return out, nil
	}
	known := map[string]Row{}
	var all []string
	for _, r := range Rows() {
		known[r.Name] = r
		all = append(all, r.Name)
	}
	for name := range strings.SplitSeq(names, ",") {
		r, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("no row %q; there are %s", name, strings.Join(all, ", "))
		}
		out = append(out, r)
	}
	return out, nil
}

// tunnels opens tunnels, each with its first request done.
func (s *session) tunnels(ctx context.Context, conns, each int) ([]*load.Tunnel, error) {
	cs, err := s.dial(ctx, conns)
	if err != nil {
		return nil, err
	}
	return load.Tunnels(ctx, cs, each, s.get)
}

func (s *session) dial(ctx context.Context, n int) ([]*load.Conn, error) {
	cs, err := load.DialAll(ctx, s.target, n)
	s.conns = append(s.conns, cs...)
	return cs, err
}

func closed(conns, each int) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		ts, err := s.tunnels(ctx, conns, each)
		if err != nil {
			return err
		}
		return s.take(load.Closed(ctx, ts, s.get, s.window()))
	}
}

func open(conns, each, rate int) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		ts, err := s.tunnels(ctx, conns, each)
		if err != nil {
			return err
		}
		return s.take(load.Open(ctx, ts, s.get, rate, s.window()))
	}
}

func churn(conns, each int) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		cs, err := s.dial(ctx, conns)
		if err != nil {
			return err
		}
		return s.take(load.Churn(ctx, cs, each, s.get, s.window()))
	}
}

// settle is how long tunnels are idle before the memory is read: garbage of the set-up is not what idling costs, and both
// allocators give pages back with a delay.
const settle = 5 * time.Second

func idle(conns, each int) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		ts, err := s.tunnels(ctx, conns, each)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(settle):
		}
		m, err := subject.MemoryOf(s.proxy.PID())
		if err != nil {
			return err
		}
		s.sample.Memory = m
		s.profile("heap", 0)
		// They were tunnels and not their remains: each carries one more request.
		return load.Each(ctx, ts, s.get)
	}
}

func downloads(n int, size, rate int64) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		ts, err := s.tunnels(ctx, n, 1)
		if err != nil {
			return err
		}
		if err := subject.ResetPeak(s.proxy.PID()); err != nil {
			return err
		}
		r := s.target.Get(fmt.Sprintf("/bytes/%d", size), size)
		r.Rate = rate
		w := s.window()
		w.Measure = 2 * time.Minute // a limit, not a duration
		if err := s.take(load.Once(ctx, ts, r, w)); err != nil {
			return err
		}
		s.bytes(size)
		return nil
	}
}

func bodies(conns, each int, size int64) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		ts, err := s.tunnels(ctx, conns, each)
		if err != nil {
			return err
		}
		r := s.target.Get(fmt.Sprintf("/bytes/%d", size), size)
		if err := s.take(load.Closed(ctx, ts, r, s.window())); err != nil {
			return err
		}
		s.bytes(size)
		return nil
	}
}

// bytes adds the figures by volume, for answers of so many bytes.
func (s *session) bytes(size int64) {
	s.sample.GigabitsPerSecond = s.sample.RequestsPerSec * float64(size) * 8 / 1e9
	s.sample.CPUMicrosPerMegabyte = s.sample.CPUMicrosPerReq / (float64(size) / 1e6)
}

// usual is the request of all rows but the downloads.
func usual(t load.Target) *load.Request { return t.Get("/", backend.BodyLength) }
