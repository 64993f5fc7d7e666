package admin

import (
	"net/http"
)

// drainListeners starts the drain. Envoy without ?graceful closes listeners at once and cuts nothing; here both forms drain, since
// closing the port first would only lose what is on its way. ?inboundonly is everything: a waypoint has no other direction.
func (s *Server) drainListeners(w http.ResponseWriter, r *http.Request) {
	ok(w)
	s.drain(r.URL.Query().Has("skip_exit"))
}

func (s *Server) drain(skipExit bool) {
	if s.src.Drain != nil {
		s.src.Drain(skipExit)
	}
}

func (s *Server) quitPage(w http.ResponseWriter, _ *http.Request) {
	ok(w)
	s.log.Info("handling /quitquitquit on the admin port")
	s.quit()
}

func (s *Server) quit() {
	if s.src.Quit != nil {
		s.src.Quit()
	}
}

// healthcheckFail and healthcheckOK change the state that /ready and /server_info show. Like in Istio's agent, the pod's readiness
// (15021) does not follow.
func (s *Server) healthcheckFail(w http.ResponseWriter, _ *http.Request) {
	s.unhealthy.Store(true)
	ok(w)
}

func (s *Server) healthcheckOK(w http.ResponseWriter, _ *http.Request) {
	s.unhealthy.Store(false)
	ok(w)
}

// resetCounters says no rather than nothing: the counters are Prometheus's, which takes a fall for a restart of the process.
func (s *Server) resetCounters(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "counters are not reset here: subtract two readings, or restart the pod", http.StatusNotImplemented)
}
