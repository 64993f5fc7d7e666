//go:build lab

package lab

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/lab/ztun"
)

// calm is the load of steps in which the machine has other things to do.
const calm = 300

// load is GET requests that go on while something else happens, at a steady
// rate: most of them over connections that are kept, each eighth worker with a
// tunnel for every request. Every one of them has to succeed.
type load struct {
	stop    context.CancelFunc
	workers sync.WaitGroup
	path    string
	rate    int
	began   time.Time

	mu       sync.Mutex
	sent     int
	late     int // due, and nobody was free to send it
	slowest  time.Duration
	failures []string
}

// loadWorkers bounds the requests in flight, to fewer than a connection's streams.
const loadWorkers = 48

// startLoad sends rate requests each second.
func startLoad(t *testing.T, pool *ztun.Pool, vip string, rate int) *load {
	return startLoadOn(t, pool, vip, "/hello", rate)
}

func startLoadOn(t *testing.T, pool *ztun.Pool, vip, path string, rate int) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop, path: path, rate: rate, began: time.Now()}
	t.Cleanup(func() { // also when the step has failed half-way
		stop()
		l.workers.Wait()
	})
	due := make(chan struct{}, loadWorkers)
	l.workers.Go(func() { l.clock(ctx, due) })
	for i := range loadWorkers {
		client := pool.HTTP(vip, i%8 != 0)
		l.workers.Go(func() {
			defer client.CloseIdleConnections()
			for range due {
				l.one(client)
			}
		})
	}
	return l
}

// clock says when a request is due, until ctx ends. What is late is not made
// up for: the machine is too slow for this rate then, and check says so.
func (l *load) clock(ctx context.Context, due chan<- struct{}) {
	defer close(due)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	asked := 0
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for ; asked < int(now.Sub(l.began).Seconds()*float64(l.rate)); asked++ {
				select {
				case due <- struct{}{}:
				default:
					l.mu.Lock()
					l.late++
					l.mu.Unlock()
				}
			}
		}
	}
}

func (l *load) one(client *http.Client) {
	began := time.Now()
	a := sendTo(client, http.MethodGet, l.path)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	l.slowest = max(l.slowest, time.Since(began))
	if a.err != nil || a.status != http.StatusOK {
		l.failures = append(l.failures, fmt.Sprintf("%s %s", began.Format("15:04:05.000"), a))
	}
}

// check ends the load and fails the test if a single request has failed, or if
// the machine could not send as much as a quarter of what was asked for: then
// nothing has been shown.
func (l *load) check(t *testing.T) {
	t.Helper()
	l.stop()
	l.workers.Wait()
	took := time.Since(l.began).Seconds()
	rate := float64(l.sent) / took
	t.Logf("%s: %d requests in %.1f s, %.0f/s of %d/s asked for (%d left out), slowest %v, %d failed",
		l.path, l.sent, took, rate, l.rate, l.late, l.slowest.Round(time.Millisecond), len(l.failures))
	if n := len(l.failures); n > 0 {
		t.Errorf("%d of %d requests have failed; the first: %s", n, l.sent, strings.Join(l.failures[:min(n, 5)], "\n"))
	}
	if rate < float64(l.rate)/4 {
		t.Errorf("%.0f requests/s were sent, %d/s were asked for", rate, l.rate)
	}
}
