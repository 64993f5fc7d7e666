package load

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Open runs an open loop: rate requests per second are due at even distances, and go to the tunnels in turn. A tunnel that is
// still busy sends its next request late; the latency counts from when it was due.
func Open(ctx context.Context, tunnels []*Tunnel, r *Request, rate int, w Window) (*Result, error) {
	run := newRun()
	// A tunnel that is as far behind as its queue is long has lost; there is no figure for that.
	const behind = 1024
	queues := make([]chan time.Time, len(tunnels))
	for i, t := range tunnels {
		queue := make(chan time.Time, behind)
		queues[i] = queue
		run.worker(func() error {
			due, ok := <-queue
			if !ok {
				return errStopped
			}
			if err := t.Do(r); err != nil {
				return err
			}
			run.record(&run.latency, time.Since(due))
			return nil
		})
	}
	run.workers.Go(func() {
		defer func() {
			for _, q := range queues {
				close(q)
			}
		}()
		if err := dispatch(run, queues, rate); err != nil {
			run.fail(err)
		}
	})
	return run.drive(ctx, w)
}

// dispatch hands out the due times. It sleeps in the kernel on a thread of its own: the Go runtime's timers are as coarse as
// epoll's milliseconds when nothing else happens.
func dispatch(run *run, queues []chan time.Time, rate int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// By default the kernel may be 50 µs late; it is no error if it cannot do better.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	began := time.Now()
	for i := 0; run.going(); i++ {
		due := began.Add(time.Duration(float64(i) / float64(rate) * float64(time.Second)))
		for {
			left := time.Until(due)
			if left <= 0 {
				run.record(&run.late, -left)
				break
			}
			ts := unix.NsecToTimespec(int64(left))
			_ = unix.Nanosleep(&ts, nil) // a signal only makes it shorter
		}
		select {
		case queues[i%len(queues)] <- due:
		default:
			return fmt.Errorf("a tunnel is %d requests behind at %d requests per second", cap(queues[i%len(queues)]), rate)
		}
	}
	return nil
}
