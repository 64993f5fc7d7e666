package waypoint

import (
	"runtime/debug"
	"sync"
	"time"
)

// shrinker gives memory back to the system when many tunnels have become idle at once. Their goroutines' stacks are free then, but
// an idle process collects garbage every two minutes only, and would keep them until then.
type shrinker struct {
	mu     sync.Mutex
	since  int
	last   time.Time
	active bool
}

const (
	// shrinkAfter goroutines are some megabytes of stacks: worth a collection, which takes a few milliseconds of one core.
	shrinkAfter = 500
	// shrinkInterval keeps a load that comes and goes from paying for it all the time.
	shrinkInterval = 10 * time.Second
)

// parked notes that n tunnels have given their goroutines back.
func (s *shrinker) parked(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since += n
	if s.since < shrinkAfter || s.active {
		return
	}
	s.active = true
	// A little later: more are likely to follow, and those that were told need a moment to leave.
	time.AfterFunc(max(time.Second, shrinkInterval-time.Since(s.last)), func() {
		s.mu.Lock()
		s.since, s.last, s.active = 0, time.Now(), false
		s.mu.Unlock()
		debug.FreeOSMemory()
	})
}
