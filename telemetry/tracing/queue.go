package tracing

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	batchSize = 100 // spans per request to a collector: some 100 KiB

	// batchAge is how long a span waits for company. A second is what zipkin-go takes; nobody looks at a trace sooner.
	batchAge = time.Second
)

// queue takes spans from requests without waiting and hands them to an exporter in batches.
type queue struct {
	out    exporter
	counts *counts
	log    *slog.Logger

	mu     sync.RWMutex // put holds it for reading, so that nothing is put into a queue that stops
	closed bool
	spans  chan finished

	ctx    context.Context // ends when stop's patience ends
	cancel context.CancelFunc
	done   chan struct{}
}

func newQueue(out exporter, size int, c *counts, log *slog.Logger) *queue {
	ctx, cancel := context.WithCancel(context.Background())
	q := &queue{out: out, counts: c, log: log, spans: make(chan finished, size), ctx: ctx, cancel: cancel, done: make(chan struct{})}
	go q.run()
	return q
}

// put queues a span, or drops and counts it. It never waits.
func (q *queue) put(f finished) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if !q.closed {
		select {
		case q.spans <- f:
			return
		default:
		}
	}
	q.counts.dropped.Add(1)
}

// stop sends what is queued and ends the queue. When ctx ends, what is left is counted as failed.
func (q *queue) stop(ctx context.Context) {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.spans)
	}
	q.mu.Unlock()
	defer q.cancel()
	select {
	case <-q.done:
	case <-ctx.Done():
		q.cancel() // what is being sent fails at once, and so does the rest
		<-q.done
	}
	q.out.close(ctx)
}

func (q *queue) run() {
	defer close(q.done)
	batch := make([]finished, 0, batchSize)
	tick := time.NewTicker(batchAge)
	defer tick.Stop()
	failing := false
	send := func() {
		if len(batch) == 0 {
			return
		}
		err := q.out.export(q.ctx, batch)
		if err != nil {
			q.counts.failed.Add(uint64(len(batch)))
		} else {
			q.counts.sent.Add(uint64(len(batch)))
		}
		if (err != nil) != failing { // once per change, not per batch
			failing = err != nil
			if failing {
				q.log.Warn("trace collector does not take spans; they are lost", "error", err)
			} else {
				q.log.Info("trace collector takes spans again")
			}
		}
		clear(batch)
		batch = batch[:0]
	}
	for {
		select {
		case f, ok := <-q.spans:
			if !ok {
				send()
				return
			}
			if batch = append(batch, f); len(batch) == batchSize {
				send()
			}
		case <-tick.C:
			send()
		}
	}
}
