package admin

import (
	"fmt"
	"net/http"
	"strings"
)

const (
	plainText = "text/plain; charset=UTF-8"
	jsonText  = "application/json"
	htmlText  = "text/html; charset=UTF-8"
)

// page is one path of the admin port.
type page struct {
	path    string
	help    string
	mutates bool // POST only
	serve   http.HandlerFunc
}

// pages lists the admin port, sorted by path. /help and / are made from it.
func (s *Server) pages() []page {
	return []page{
		{"/census", "configuration that is set and not honoured (or ?format=json)", false, s.censusPage},
		{"/certs", "certificates in use", false, s.certsPage},
		{"/clusters", "upstream clusters and their endpoints (or ?format=json)", false, s.clustersPage},
		{"/config_dump", "configuration as received (?resource, ?mask, ?name_regex, ?include_eds)", false, s.configDumpPage},
		{"/contention", "time spent waiting for locks", false, s.contentionPage},
		{"/cpuprofiler", "not here: see /debug/pprof/profile", true, s.profilerElsewhere},
		{"/debug/pprof/", "profiles of the Go runtime", false, profiles().ServeHTTP},
		{"/drain_listeners", "drain (?graceful, ?skip_exit, ?inboundonly)", true, s.drainListeners},
		{"/healthcheck/fail", "make /ready say DRAINING", true, s.healthcheckFail},
		{"/healthcheck/ok", "undo /healthcheck/fail", true, s.healthcheckOK},
		{"/heapprofiler", "not here: see /debug/pprof/heap", true, s.profilerElsewhere},
		{"/help", "this list", false, s.helpPage},
		{"/hot_restart_version", "there is no hot restart", false, s.hotRestartPage},
		{"/init_dump", "what start-up still waits for", false, s.initDumpPage},
		{"/listeners", "bound listeners (or ?format=json)", false, s.listenersPage},
		{"/logging", "log levels; change with ?level=, ?<logger>=, ?paths=", true, s.loggingPage},
		{"/memory", "memory in use", false, s.memoryPage},
		{"/quitquitquit", "exit without draining", true, s.quitPage},
		{"/ready", "state; 200 when LIVE", false, s.readyPage},
		{"/reset_counters", "refused: Prometheus counters do not go back", true, s.resetCounters},
		{"/runtime", "runtime values (there are none)", false, s.runtimePage},
		{"/server_info", "version, state, options and node", false, s.serverInfoPage},
		{"/stats", "counters and gauges (?filter=, ?usedonly, ?format=text|json|prometheus)", false, s.statsPage},
		{"/stats/prometheus", "all metrics in Prometheus's format (?filter=)", false, s.filtered(s.src.Registry.ProxyHandler()).ServeHTTP},
	}
}

// adminHandler answers on 15000.
func (s *Server) adminHandler() http.Handler {
	byPath := map[string]http.Handler{"/": http.HandlerFunc(s.indexPage)}
	for _, p := range s.pages() {
		h := http.Handler(p.serve)
		if p.mutates {
			h = postOnly(h)
		}
		byPath[p.path] = h
	}
	return sameOrigin(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := squeeze(r.URL.Path)
		h := byPath[path]
		if h == nil && strings.HasPrefix(path+"/", pprofPrefix) {
			h = byPath[pprofPrefix]
		}
		w.Header().Set("Cache-Control", "no-cache, max-age=0")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		switch {
		case h == nil:
			w.Header().Set("Content-Type", plainText)
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprint(w, "invalid path. admin commands are:\n", s.help())
		case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost:
			http.Error(w, "Method "+r.Method+" not allowed.", http.StatusMethodNotAllowed)
		default:
			h.ServeHTTP(w, r)
		}
	}))
}

// squeeze makes one slash of several (istioctl asks for //stats/prometheus) and drops one at the end. http.ServeMux would redirect,
// and istioctl takes any status but 200 for a failure.
func squeeze(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if path == pprofPrefix || len(path) <= 1 {
		return path
	}
	return strings.TrimSuffix(path, "/")
}
