package accesslog

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	defaultFlush     = time.Second // buffer_flush_interval; Envoy's default
	defaultBatchSize = 16 << 10    // buffer_size_bytes; Envoy's default

	// maxBatch bounds the bytes of one message: a quarter of what gRPC servers take by default.
	maxBatch = 1 << 20
)

// output sends batches. It is used by one goroutine at a time.
type output interface {
	send(ctx context.Context, batch []proto.Message) error
	close()
}

// queued is the queue of one log service. Entries are put without waiting; a goroutine, which is only there while entries come,
// sends them when enough wait or the oldest has waited long enough.
type queued struct {
	set     *Services
	name    string // for the proxy's own log
	out     output
	batch   int
	flush   time.Duration
	timeout time.Duration
	wake    chan struct{}

	mu      sync.Mutex
	waiting []proto.Message
	bytes   int
	running bool
	closed  bool
	quit    context.CancelFunc // ends what is being sent
	done    chan struct{}      // of the goroutine that runs
}

func (s *Services) newService(name string, out output, timeout time.Duration, flush *durationpb.Duration, size *wrapperspb.UInt32Value) *queued {
	svc := &queued{set: s, name: name, out: out, batch: defaultBatchSize, flush: defaultFlush, timeout: timeout, wake: make(chan struct{}, 1)}
	if d := flush.AsDuration(); d > 0 {
		svc.flush = d
	}
	if size != nil { // 0: each entry is sent at once
		svc.batch = int(size.GetValue())
	}
	return svc
}

// put takes an entry over, or drops and counts it. It never waits.
func (s *queued) put(m proto.Message) {
	size := proto.Size(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.bytes+size > s.set.opts.Buffer {
		s.set.dropped.Add(1)
		return
	}
	s.waiting = append(s.waiting, m)
	s.bytes += size
	if !s.running {
		ctx, cancel := context.WithCancel(context.Background())
		s.running, s.quit, s.done = true, cancel, make(chan struct{})
		go s.run(ctx, s.done)
	}
	if s.bytes >= s.batch {
		s.awaken()
	}
}

func (s *queued) awaken() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

func (s *queued) run(ctx context.Context, done chan struct{}) {
	defer close(done)
	tick := time.NewTicker(s.flush)
	defer tick.Stop()
	failing, last := false, time.Now()
	for {
		select {
		case <-tick.C:
		case <-s.wake:
		}
		s.mu.Lock()
		list, closed := s.waiting, s.closed
		s.waiting, s.bytes = nil, 0
		s.mu.Unlock()
		switch {
		case len(list) > 0:
			last = time.Now()
			failing = s.sendAll(ctx, list, failing)
		case closed || time.Since(last) > s.set.opts.Idle:
			s.out.close()
			if s.ended() {
				return
			}
		}
	}
}

// ended tells the goroutine to end, unless entries came while it closed the output.
func (s *queued) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) > 0 {
		return false
	}
	s.running = false
	return true
}

// sendAll sends entries in messages that are not too large.
func (s *queued) sendAll(ctx context.Context, list []proto.Message, failing bool) (failed bool) {
	for len(list) > 0 {
		n, size := 0, 0
		for n < len(list) && (n == 0 || size < maxBatch) {
			size += proto.Size(list[n])
			n++
		}
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		err := s.out.send(ctx, list[:n])
		cancel()
		if err != nil {
			s.set.failed.Add(uint64(n))
		} else {
			s.set.sent.Add(uint64(n))
		}
		if (err != nil) != failing { // once per change, not per batch
			failing = err != nil
			if failing {
				s.set.opts.Log.Warn("log service does not take entries; they are lost", "service", s.name, "error", err)
			} else {
				s.set.opts.Log.Info("log service takes entries again", "service", s.name)
			}
		}
		list = list[n:]
	}
	return failing
}

// close sends what waits and ends the goroutine. When ctx ends, what is being sent is given up.
func (s *queued) close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	running, done, quit := s.running, s.done, s.quit
	s.mu.Unlock()
	if !running {
		return
	}
	s.awaken()
	for {
		select {
		case <-done:
			quit()
			return
		case <-ctx.Done():
			quit()
			ctx = context.Background()
		case <-time.After(10 * time.Millisecond):
			s.awaken() // it takes what waits first, and looks again
		}
	}
}
