package cluster

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrOverflow means that a circuit breaker is open: 503, flag UO. Stats.Overflows has counted it.
var ErrOverflow = errors.New("circuit breaker overflow")

// unlimited is what istiod sends for no limit.
const unlimited = math.MaxUint32

// take counts one more of what active counts, unless there are limit already.
func take(active *atomic.Int64, limit uint32) bool {
	if active.Add(1) > int64(limit) && limit != unlimited {
		active.Add(-1)
		return false
	}
	return true
}

// TryBegin counts a request at h as [Host.Begin] does, unless max_requests of the cluster are in flight. End takes it back.
func (h *Host) TryBegin() bool {
	c := h.cluster
	if !take(&c.Stats.RequestsActive, c.Config().Limits.MaxRequests) {
		c.Stats.Overflows.Add(1)
		return false
	}
	h.active.Add(1)
	c.Stats.RequestsTotal.Add(1)
	h.Stats.RequestsTotal.Add(1)
	return true
}

// TryBeginSession counts a TCP session at h, unless the cluster has max_connections. EndSession takes it back.
func (h *Host) TryBeginSession() bool {
	c := h.cluster
	if !take(&c.Stats.ConnectionsActive, c.Config().Limits.MaxConnections) {
		c.Stats.Overflows.Add(1)
		return false
	}
	c.Stats.ConnectionsTotal.Add(1)
	h.Stats.ConnectTotal.Add(1)
	h.Stats.ConnectActive.Add(1)
	h.Begin()
	return true
}

// EndSession is the end of what TryBeginSession counted.
func (h *Host) EndSession() {
	h.End()
	h.connClosed()
}

// TryRetry counts a retry, unless max_retries are in flight or the retry budget is used up. EndRetry takes it back, when the attempt is
// over. A budget allows a share of the requests in flight, waiting ones included, and min_retry_concurrency at least.
func (c *Cluster) TryRetry() bool {
	limits := &c.Config().Limits
	limit := limits.MaxRetries
	if b := limits.RetryBudget; b != nil {
		active := max(c.Stats.RequestsActive.Load()+c.Stats.PendingActive.Load(), 0)
		limit = max(uint32(min(float64(active)*b.Percent/100, unlimited)), b.MinConcurrency)
	}
	if !take(&c.Stats.RetriesActive, limit) {
		c.Stats.Overflows.Add(1)
		return false
	}
	return true
}

// EndRetry is the end of what TryRetry counted.
func (c *Cluster) EndRetry() { c.Stats.RetriesActive.Add(-1) }

// errNoSlot says that the cluster has max_connections.
var errNoSlot = errors.New("max_connections reached")

// takeConnection counts a connection that is about to be made. As in Envoy, a host without any may have one in any case: connections
// to other hosts do not serve its requests.
func (h *Host) takeConnection() bool {
	c := h.cluster
	if !take(&c.Stats.ConnectionsActive, c.Config().Limits.MaxConnections) {
		if !h.Stats.ConnectActive.CompareAndSwap(0, 1) {
			return false
		}
		c.Stats.ConnectionsActive.Add(1)
		return true
	}
	h.Stats.ConnectActive.Add(1)
	return true
}

// queue is the requests of a cluster that wait for a connection, first come, first served.
type queue struct {
	mu      sync.Mutex
	waiting []*waiter
}

type waiter struct {
	host  *Host
	ready chan struct{}
}

// lookAgain is for what becomes free without a word, such as the room for a stream that ends a moment after its lease.
const lookAgain = 100 * time.Millisecond

// wait runs try each time that something has become free, until it takes no errNoSlot for an answer. The first try has been made.
// ErrOverflow: max_pending_requests wait already.
func (c *Cluster) wait(ctx context.Context, h *Host, try func() (Lease, error)) (Lease, error) {
	if !take(&c.Stats.PendingActive, c.Config().Limits.MaxPending) {
		c.Stats.Overflows.Add(1)
		return Lease{}, ErrOverflow
	}
	defer c.Stats.PendingActive.Add(-1)
	w := &waiter{host: h, ready: make(chan struct{}, 1)}
	q := &c.queue
	q.mu.Lock()
	q.waiting = append(q.waiting, w)
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		if i := slices.Index(q.waiting, w); i >= 0 {
			q.waiting = slices.Delete(q.waiting, i, i+1)
		}
		q.mu.Unlock()
		select {
		case <-w.ready: // what it was told of is for somebody else
			q.wake(h)
		default:
		}
	}()
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for {
		// Something may have become free between the first try and the queue; from now on it tells.
		if l, err := try(); !errors.Is(err, errNoSlot) {
			return l, err
		}
		select {
		case <-w.ready:
		case <-look.C:
		case <-ctx.Done():
			return Lease{}, &ConnectError{Hop: "pool", Err: context.Cause(ctx), Timeout: errors.Is(ctx.Err(), context.DeadlineExceeded)}
		}
	}
}

// wake tells somebody who waits that something has become free at h. Where nobody waits it costs a look: who begins to wait counts
// in PendingActive before the try that would find what is free.
func (c *Cluster) wake(h *Host) {
	if c.Stats.PendingActive.Load() > 0 {
		c.queue.wake(h)
	}
}

// wake tells the first one that waits for h, or else the first one, to try again.
func (q *queue) wake(h *Host) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var first *waiter
	for _, w := range q.waiting {
		if len(w.ready) > 0 {
			continue // knows already
		}
		if w.host == h {
			first = w
			break
		}
		if first == nil {
			first = w
		}
	}
	if first != nil {
		first.ready <- struct{}{} // has room: only wake sends, under the lock
	}
}
