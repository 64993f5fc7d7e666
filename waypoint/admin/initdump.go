package admin

import (
	"net/http"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"

	"github.com/gowaypoint/gowaypoint/xdsclient"
)

// initDumpPage answers /init_dump: what start-up, or the latest push, still waits for.
func (s *Server) initDumpPage(w http.ResponseWriter, _ *http.Request) {
	out := &adminv3.UnreadyTargetsDumps{}
	add := func(name string, targets []string) {
		if len(targets) > 0 {
			out.UnreadyTargetsDumps = append(out.UnreadyTargetsDumps,
				&adminv3.UnreadyTargetsDumps_UnreadyTargetsDump{Name: name, TargetNames: targets})
		}
	}
	if err := s.ready(); err != nil {
		add("server", []string{err.Error()})
	}
	var clusters, secrets []string
	for _, e := range s.src.XDS.Snapshot(xdsclient.TypeCluster).Entries {
		if e.Accepted != nil && s.warming(e.Name) {
			clusters = append(clusters, "cluster "+e.Name)
		}
	}
	for _, sec := range s.src.Secrets() {
		if sec.Warming {
			secrets = append(secrets, "secret "+sec.Name)
		}
	}
	add("cluster manager", clusters)
	add("secrets", secrets)
	s.writeJSON(w, out)
}
