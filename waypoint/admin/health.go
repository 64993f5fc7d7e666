package admin

import (
	"net/http"
	"sync"
	"time"
)

// probe remembers how readiness went, for the log and for the start-up time.
type probe struct {
	mu    sync.Mutex
	last  string        // the last reason not to be ready; "" when ready
	asked bool          // a probe has come
	took  time.Duration // from start to the first time that it was ready
	wasOK bool
}

// healthHandler answers on 15021: one path, everything else is 404, as the Envoy listener in front of the agent does it.
func (s *Server) healthHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != readyPath {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		s.healthz(w, r)
	})
}

const readyPath = "/healthz/ready"

// healthz is the readiness probe (contract P12): 200 without a body, or 503 with the reason, which is logged as well; once per
// reason, since a starting pod is probed every second.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	err := s.ready()
	s.probe.mu.Lock()
	before, asked := s.probe.last, s.probe.asked
	s.probe.last, s.probe.asked = "", true
	if err != nil {
		s.probe.last = err.Error()
	}
	s.probe.mu.Unlock()
	if err != nil {
		if !asked || before != err.Error() {
			s.log.Warn("Envoy proxy is NOT ready: " + err.Error())
		}
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if !asked || before != "" {
		s.log.Info("Envoy proxy is ready")
	}
	w.WriteHeader(http.StatusOK)
}

// ready asks whether the pod may be sent traffic and notes the first time.
func (s *Server) ready() error {
	err := s.src.Ready()
	if err == nil {
		s.probe.mu.Lock()
		if !s.probe.wasOK {
			s.probe.wasOK, s.probe.took = true, time.Since(s.src.Started)
		}
		s.probe.mu.Unlock()
	}
	return err
}

// startup is how long it took to be ready; ok is false before.
func (s *Server) startup() (took time.Duration, ok bool) {
	s.probe.mu.Lock()
	defer s.probe.mu.Unlock()
	return s.probe.took, s.probe.wasOK
}
