package cluster

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/message"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

func TestMaxRequests(t *testing.T) {
	_, c := single(t, &program.Cluster{Endpoints: many(2), Limits: program.CircuitBreakers{MaxRequests: 2}})
	a, b := c.Hosts()[0], c.Hosts()[1]
	if !a.TryBegin() || !b.TryBegin() || a.TryBegin() {
		t.Error("not two of three")
	}
	if c.Stats.Overflows.Load() != 1 || c.Stats.RequestsActive.Load() != 2 || a.Active() != 1 {
		t.Errorf("%d overflows, %d active", c.Stats.Overflows.Load(), c.Stats.RequestsActive.Load())
	}
	b.End()
	if !a.TryBegin() {
		t.Error("one has ended, and there is no room")
	}
}

func TestMaxConnectionsOfSessions(t *testing.T) {
	_, c := single(t, &program.Cluster{Endpoints: many(1), Limits: program.CircuitBreakers{MaxConnections: 1}})
	h := c.Hosts()[0]
	if !h.TryBeginSession() || h.TryBeginSession() {
		t.Error("not one of two")
	}
	h.EndSession()
	if h.Active() != 0 || c.Stats.ConnectionsActive.Load() != 0 || h.Stats.ConnectActive.Load() != 0 || !h.TryBeginSession() {
		t.Error("the session has ended, and there is no room")
	}
}

func TestMaxRetries(t *testing.T) {
	_, c := single(t, &program.Cluster{Endpoints: many(1), Limits: program.CircuitBreakers{MaxRetries: 1, MaxRequests: unlimited}})
	if !c.TryRetry() || c.TryRetry() {
		t.Error("not one of two")
	}
	c.EndRetry()
	if !c.TryRetry() {
		t.Error("the retry has ended, and there is no room")
	}
}

func TestRetryBudget(t *testing.T) {
	_, c := single(t, &program.Cluster{Endpoints: many(1), Limits: program.CircuitBreakers{
		MaxRequests: unlimited, MaxRetries: 1, RetryBudget: &program.RetryBudget{Percent: 20, MinConcurrency: 3}}})
	retries := func() (n int) {
		for c.TryRetry() {
			n++
		}
		for range n {
			c.EndRetry()
		}
		return n
	}
	if n := retries(); n != 3 {
		t.Errorf("nothing in flight: %d retries, want min_retry_concurrency 3", n)
	}
	for range 50 {
		c.Hosts()[0].Begin()
	}
	if n := retries(); n != 10 {
		t.Errorf("50 requests in flight: %d retries, want 20 percent", n)
	}
}

// http1 answers each request after a moment, and remembers how many connections were open at the same time.
func http1(t *testing.T) (addr string, most *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	most = &atomic.Int64{}
	var open atomic.Int64
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if n := open.Add(1); n > most.Load() {
				most.Store(n)
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer open.Add(-1)
				defer func() { _ = c.Close() }()
				for r := bufio.NewReader(c); ; {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					time.Sleep(5 * time.Millisecond)
					if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), most
}

func get(h *Host) error {
	l, ok := h.TryAcquire(message.HTTP11)
	if !ok {
		var err error
		if l, err = h.Acquire(context.Background(), message.HTTP11); err != nil {
			return err
		}
	}
	defer l.Release()
	if err := l.Stream.WriteHead(&message.Head{Method: "GET", Scheme: "http", Authority: "a", Path: "/"}, true); err != nil {
		return err
	}
	if err := l.Stream.Flush(); err != nil {
		return err
	}
	var resp message.Head
	end, err := l.Stream.ReadHead(&resp)
	if err == nil && !end {
		_, err = l.Stream.Read(make([]byte, 1))
		if err != nil && err.Error() == "EOF" {
			err = nil
		}
	}
	return err
}

// Forty requests share two connections; those that find none wait for one.
func TestMaxConnections(t *testing.T) {
	addr, most := http1(t)
	_, c := single(t, &program.Cluster{Endpoints: []*program.Endpoint{endpoint(addr, 1, 0, 0)},
		Limits: program.CircuitBreakers{MaxConnections: 2, MaxPending: 100, MaxRequests: unlimited}})
	var wg sync.WaitGroup
	for range 40 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := get(c.Hosts()[0]); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if most.Load() != 2 || c.Stats.ConnectionsTotal.Load() != 2 {
		t.Errorf("%d connections at the same time, %d in all, want 2", most.Load(), c.Stats.ConnectionsTotal.Load())
	}
	if c.Stats.PendingActive.Load() != 0 || c.Stats.Overflows.Load() != 0 {
		t.Errorf("pending %d, overflows %d", c.Stats.PendingActive.Load(), c.Stats.Overflows.Load())
	}
}

func TestMaxPending(t *testing.T) {
	addr, _ := http1(t)
	_, c := single(t, &program.Cluster{Endpoints: []*program.Endpoint{endpoint(addr, 1, 0, 0)},
		Limits: program.CircuitBreakers{MaxConnections: 1, MaxPending: 1, MaxRequests: unlimited}})
	h := c.Hosts()[0]
	l, err := h.Acquire(context.Background(), message.HTTP11)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	waiting := make(chan error)
	go func() { _, err := h.Acquire(ctx, message.HTTP11); waiting <- err }()
	for c.Stats.PendingActive.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := h.Acquire(context.Background(), message.HTTP11); !errors.Is(err, ErrOverflow) || c.Stats.Overflows.Load() != 1 {
		t.Errorf("a second one that waits: %v", err)
	}
	gone := errors.New("the client has gone")
	cancel(gone)
	if err := <-waiting; !errors.Is(err, gone) {
		t.Errorf("the one that waited: %v", err)
	}
	l.Release()
	if n := c.Stats.ConnectionsActive.Load(); n != 0 { // no request was sent: the connection is not kept
		t.Errorf("%d connections are left", n)
	}
}

// Connections to one host do not keep another host from having one.
func TestEveryHostMayHaveAConnection(t *testing.T) {
	a, _ := http1(t)
	b, _ := http1(t)
	_, c := single(t, &program.Cluster{Endpoints: []*program.Endpoint{endpoint(a, 1, 0, 0), endpoint(b, 1, 0, 0)},
		Limits: program.CircuitBreakers{MaxConnections: 1, MaxRequests: unlimited}})
	for _, h := range c.Hosts() {
		if err := get(h); err != nil {
			t.Errorf("%s: %v", h.Key, err)
		}
	}
}
