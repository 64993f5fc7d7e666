package admin

import (
	"net/http"
	"net/http/pprof"
	"strings"
)

// statusHandler answers on 15020 as pilot-agent does.
func (s *Server) statusHandler() http.Handler {
	merged := s.filtered(s.src.Registry.MergedHandler())
	mux := map[string]http.Handler{
		readyPath:           http.HandlerFunc(s.healthz),
		"/stats/prometheus": merged,
		"/metrics":          merged,
		"/quitquitquit":     localOnly(postOnly(http.HandlerFunc(s.agentQuit))),
		"/drain":            localOnly(postOnly(http.HandlerFunc(s.agentDrain))),
		// DNS of the agent, which a waypoint does not run.
		"/debug/ndsz": localOnly(http.HandlerFunc(noDNS)),
	}
	return sameOrigin(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := squeeze(r.URL.Path)
		switch h := mux[path]; {
		case h != nil:
			h.ServeHTTP(w, r)
		case strings.HasPrefix(path+"/", pprofPrefix):
			localOnly(profiles()).ServeHTTP(w, r)
		case strings.HasPrefix(path+"/", "/app-health/"), strings.HasPrefix(path+"/", "/app-lifecycle/"):
			// A waypoint has no application whose probes the agent would take over.
			http.Error(w, "app prober config does not exists for "+path, http.StatusBadRequest)
		default:
			http.NotFound(w, r)
		}
	}))
}

func (s *Server) agentQuit(w http.ResponseWriter, _ *http.Request) {
	ok(w)
	s.log.Info("handling /quitquitquit, notifying pilot-agent to exit")
	s.quit()
}

func (s *Server) agentDrain(w http.ResponseWriter, _ *http.Request) {
	ok(w)
	s.log.Info("handling /drain, starting drain")
	s.drain(true)
}

func noDNS(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte("{}"))
}

// ok is the answer to what needs no other, sent before the process may end: with a length, since an exit leaves no time for the last
// chunk, and flushed.
func ok(w http.ResponseWriter) {
	w.Header().Set("Content-Type", plainText)
	w.Header().Set("Content-Length", "3")
	_, _ = w.Write([]byte("OK\n"))
	_ = http.NewResponseController(w).Flush()
}

const pprofPrefix = "/debug/pprof/"

// profiles serves net/http/pprof, without its registration in the default mux.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(pprofPrefix, pprof.Index)
	mux.HandleFunc(pprofPrefix+"cmdline", pprof.Cmdline)
	mux.HandleFunc(pprofPrefix+"profile", pprof.Profile)
	mux.HandleFunc(pprofPrefix+"symbol", pprof.Symbol)
	mux.HandleFunc(pprofPrefix+"trace", pprof.Trace)
	return mux
}
