package cluster

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// Outcome is what became of a request, or of a TCP session's beginning, for outlier detection.
type Outcome uint8

// The outcomes. An answer is the endpoint's own doing; the local ones are what this proxy saw of the way to it.
const (
	// Answered: a status below 500.
	Answered Outcome = iota
	// ServerError: 500 or above, save the next.
	ServerError
	// GatewayError: 502, 503 or 504.
	GatewayError
	// Connected: there is a connection, and an answer is waited for (HTTP).
	Connected
	// ConnectedFinal: there is a connection, and no more will be known (TCP).
	ConnectedFinal
	// ConnectFailed: no connection, or it was reset before an answer.
	ConnectFailed
	// TimedOut: no answer in time.
	TimedOut
)

// OutcomeOf is the outcome of an answer.
func OutcomeOf(status int) Outcome {
	switch {
	case status == 502, status == 503, status == 504:
		return GatewayError
	case status >= 500:
		return ServerError
	}
	return Answered
}

// outlier is what outlier detection knows of a host. It lives as long as the host, across pushes.
type outlier struct {
	// Consecutive failures by kind.
	serverErrors, gatewayErrors, localFailures atomic.Uint32
	ejected                                    atomic.Bool

	// Under Cluster.mu:
	times int // by which the base ejection time is multiplied
	until time.Time
}

// Report tells outlier detection what became of a request. It is cheap where all goes well, and may be called from any goroutine.
//
// As in Envoy: consecutive failures of a kind eject the host, with the probability that is configured for the kind, for
// base_ejection_time × the number of times that it has happened, max_ejection_time at most; an interval without an ejection takes
// one off that number. Without split_external_local_origin_errors a failure to connect counts as an answer 503, and a timeout
// as 504. At most max_ejection_percent of the cluster are ejected at the same time. ORIGINAL_DST clusters eject nobody: a client that
// asks for an address can be sent to no other.
func (h *Host) Report(o Outcome) {
	cfg := h.cluster.Config().Outlier
	if cfg == nil {
		return
	}
	if !cfg.SplitLocalOrigin {
		switch o {
		case Connected:
			return // the answer will count
		case ConnectedFinal:
			o = Answered
		case ConnectFailed, TimedOut:
			o = GatewayError
		}
	}
	s := &h.outlier
	switch o {
	case Answered:
		reset(&s.serverErrors)
		reset(&s.gatewayErrors)
	case ServerError:
		reset(&s.gatewayErrors)
		h.strike(&s.serverErrors, cfg.Consecutive5xx, cfg.EnforceConsecutive5xx)
	case GatewayError:
		h.strike(&s.gatewayErrors, cfg.ConsecutiveGatewayFailure, cfg.EnforceGatewayFailure)
		h.strike(&s.serverErrors, cfg.Consecutive5xx, cfg.EnforceConsecutive5xx)
	case Connected, ConnectedFinal:
		reset(&s.localFailures)
	case ConnectFailed, TimedOut:
		h.strike(&s.localFailures, cfg.ConsecutiveLocalOriginFailure, cfg.EnforceLocalOrigin)
	}
}

// reset does not write where nothing is to be written: all requests to a host come by here.
func reset(n *atomic.Uint32) {
	if n.Load() != 0 {
		n.Store(0)
	}
}

// strike counts a failure, and ejects the host when there have been enough in a row.
func (h *Host) strike(n *atomic.Uint32, limit, enforce uint32) {
	if limit == 0 || n.Add(1) != limit {
		return
	}
	n.Store(0)
	if rand.Uint32N(100) < enforce {
		h.cluster.eject(h)
	}
}

// Ejected tells whether outlier detection keeps the host from being picked.
func (h *Host) Ejected() bool { return h.outlier.ejected.Load() }

func (c *Cluster) eject(h *Host) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.view.Load()
	cfg := v.cfg.Outlier
	if cfg == nil || v.original != nil || c.hosts[h.Key] != h || h.Ejected() {
		return
	}
	ejected := 1
	for _, other := range v.hosts {
		if other.Ejected() {
			ejected++
		}
	}
	if ejected*100 > int(min(cfg.MaxEjectionPercent, 100))*len(v.hosts) {
		c.Stats.EjectionsOverflow.Add(1)
		return
	}
	s := &h.outlier
	longest := max(cfg.MaxEjectionTime, cfg.BaseEjectionTime)
	if cfg.BaseEjectionTime*time.Duration(s.times) < longest {
		s.times++
	}
	s.until = time.Now().Add(min(cfg.BaseEjectionTime*time.Duration(s.times), longest))
	s.ejected.Store(true)
	c.Stats.Ejections.Add(1)
	c.relevelLocked()
	if c.reviews == nil {
		c.reviews = time.AfterFunc(interval(cfg), c.review)
	}
}

// interval is how often ejections are looked at; Envoy's default is 10 s, which config has filled in.
func interval(cfg *program.OutlierDetection) time.Duration {
	return max(cfg.Interval, time.Millisecond)
}

// pardonLocked forgets all ejections: the cluster has no outlier detection any more.
func (c *Cluster) pardonLocked(hosts []*Host) {
	for _, h := range hosts {
		h.outlier.pardon()
		h.outlier.times = 0
	}
}

// pardon brings the host back, with a clean record.
func (s *outlier) pardon() {
	s.ejected.Store(false)
	reset(&s.serverErrors)
	reset(&s.gatewayErrors)
	reset(&s.localFailures)
}

// review brings hosts back whose time is over. It runs once per interval, as long as somebody is ejected or has been of late.
func (c *Cluster) review() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reviews == nil {
		return // closed
	}
	v := c.view.Load()
	cfg := v.cfg.Outlier
	if cfg == nil { // a push has pardoned all
		c.reviews = nil
		return
	}
	now, changed, again := time.Now(), false, false
	for _, h := range v.hosts {
		switch s := &h.outlier; {
		case h.Ejected() && !now.Before(s.until):
			s.pardon()
			changed = true
		case !h.Ejected() && s.times > 0:
			s.times--
		}
		again = again || h.Ejected() || h.outlier.times > 0
	}
	if changed {
		c.relevelLocked()
	}
	if again {
		c.reviews.Reset(interval(cfg))
	} else {
		c.reviews = nil
	}
}

// relevelLocked makes a view in which the hosts' health is what it is now.
func (c *Cluster) relevelLocked() {
	v := *c.view.Load()
	v.levels = levels(v.hosts, &v.cfg.LB)
	c.view.Store(&v)
}
