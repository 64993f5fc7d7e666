package waypoint

import (
	"time"
)

// defaultGrace is ProxyConfig.terminationDrainDuration's default.
const defaultGrace = 5 * time.Second

func (s *Server) drainGrace() time.Duration {
	if s.cfg.Drain.Grace > 0 {
		return s.cfg.Drain.Grace
	}
	return defaultGrace
}

// drain is what happens between SIGTERM and exit (contract P13): not ready at once; GOAWAY at once on every HBONE connection, so
// that clients' pools move on; answers to HTTP/1.1 say Connection: close; new connections are still accepted, since clients
// that have not seen the endpoint go keep coming. Then, either the grace period and the end whatever is in flight, or waiting
// until no stream is left. Streams are counted, not listeners.
func (s *Server) drain() {
	grace := s.drainGrace()
	s.log.Info("Agent draining Proxy for termination", "streams", s.ports.streams())
	if s.drained.Load() { // POST /drain came before: the later SIGTERM ends at once
		s.log.Info("Agent has successfully terminated")
		return
	}
	s.stopWelcoming()
	if !s.cfg.Drain.ExitOnZero {
		s.log.Info("Graceful termination period is " + grace.String() + ", starting...")
		s.ports.drain(grace)
		end := time.Now().Add(grace)
		for time.Now().Before(end) {
			// Nothing left to wait for, and no client can be on its way any more that would not get a GOAWAY: stay the
			// whole time all the same, as pilot-agent does, because endpoints are withdrawn with a delay.
			time.Sleep(min(time.Until(end), 100*time.Millisecond))
		}
	} else {
		s.ports.drain(0)
		time.Sleep(s.cfg.Drain.Minimum)
		for n := s.ports.streams(); n > 0; n = s.ports.streams() {
			s.log.Info("There are still active connections", "streams", n)
			time.Sleep(time.Second)
		}
	}
	s.log.Info("Agent has successfully terminated")
}

// stopWelcoming makes the server unready and answers say that the connection ends.
func (s *Server) stopWelcoming() {
	s.draining.Store(true)
	s.exchange.Draining.Store(true)
}

// StartDrain begins to drain while the process goes on (POST /drain_listeners, POST /drain). skipExit: a SIGTERM that comes
// later ends the process at once, because the drain has been had.
func (s *Server) StartDrain(skipExit bool) {
	s.stopWelcoming()
	if skipExit {
		s.drained.Store(true)
	}
	s.ports.drain(0)
}

// Draining tells whether the server is on its way out.
func (s *Server) Draining() bool { return s.draining.Load() }
