package admin

import (
	"net/http"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"

	"github.com/gowaypoint/gowaypoint/xdsclient"
)

// state is the server's state in Envoy's words. LIVE means here what the readiness probe means.
func (s *Server) state() adminv3.ServerInfo_State {
	switch {
	case s.src.Draining(), s.unhealthy.Load():
		return adminv3.ServerInfo_DRAINING
	case s.ready() == nil:
		return adminv3.ServerInfo_LIVE
	case s.src.XDS.Stats(xdsclient.TypeCluster).Accepted == 0:
		return adminv3.ServerInfo_PRE_INITIALIZING
	}
	return adminv3.ServerInfo_INITIALIZING
}

// readyPage is the admin port's /ready: the state, with 200 only when it is LIVE.
func (s *Server) readyPage(w http.ResponseWriter, _ *http.Request) {
	state := s.state()
	w.Header().Set("Content-Type", plainText)
	if state != adminv3.ServerInfo_LIVE {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write([]byte(state.String() + "\n"))
}
