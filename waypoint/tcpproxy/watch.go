package tcpproxy

import (
	"time"

	"github.com/gowaypoint/gowaypoint/telemetry"
	"github.com/gowaypoint/gowaypoint/waypoint/filter"
	"github.com/gowaypoint/gowaypoint/waypoint/program"
)

// reportInterval is how often a session's bytes so far are reported: istio.stats' default tcp_reporting_duration. A filter
// that was configured for longer leaves reports out.
const reportInterval = 5 * time.Second

// reports returns the function that tells the chain's reporting filters of the session.
func (s *Session) reports(chain *program.Chain) func(filter.Phase) {
	var list []filter.NetworkFinisher
	for _, f := range chain.Network {
		if r, ok := f.(filter.NetworkFinisher); ok {
			list = append(list, r)
		}
	}
	return func(p filter.Phase) {
		if len(list) == 0 {
			return
		}
		r := s.rec // a copy: the session's goroutine owns the record
		s.fill(&r)
		for _, f := range list {
			f.Report(&r, p)
		}
	}
}

// watch runs the session's timers: reports, idle timeout, longest life. It returns what ends them.
func (s *Session) watch(tcp *program.TCP, report func(filter.Phase)) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(reportInterval)
		defer tick.Stop()
		var life <-chan time.Time
		if tcp.MaxDuration > 0 {
			t := time.NewTimer(tcp.MaxDuration)
			defer t.Stop()
			life = t.C
		}
		var idle <-chan time.Time
		var idleTimer *time.Timer
		if tcp.IdleTimeout > 0 {
			idleTimer = time.NewTimer(tcp.IdleTimeout)
			defer idleTimer.Stop()
			idle = idleTimer.C
		}
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				report(filter.Ongoing)
			case <-life:
				s.end("max_connection_duration", telemetry.FlagDurationTimeout)
			case <-idle:
				left := tcp.IdleTimeout - time.Since(time.Unix(0, s.lastMoved.Load()))
				if left <= 0 {
					s.end("tcp_session_idle_timeout", telemetry.FlagStreamIdleTimeout)
					left = tcp.IdleTimeout
				}
				idleTimer.Reset(left)
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		report(filter.Closed)
	}
}

func (s *Session) fill(r *telemetry.Record) {
	r.BytesReceived, r.BytesSent = s.received.Load(), s.sent.Load()
	r.WireBytesReceived, r.WireBytesSent = r.BytesReceived, r.BytesSent
	r.Duration = telemetry.Took(time.Since(r.Start))
}

// finish writes the session's access log.
func (s *Session) finish(chain *program.Chain) {
	r := &s.rec
	s.fill(r)
	s.mu.Lock()
	if s.reason != "" {
		r.ConnectionTerminationDetails = s.reason
	}
	r.Flags.Set(s.flag)
	s.over = true
	s.mu.Unlock()
	if chain.TCP == nil {
		return
	}
	for _, l := range chain.TCP.Logs {
		l.Log(r)
	}
}
