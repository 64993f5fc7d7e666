package admin

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// serverInfoPage answers /server_info: envoy.admin.v3.ServerInfo. Scripts read state and version.
func (s *Server) serverInfoPage(w http.ResponseWriter, _ *http.Request) {
	uptime := durationpb.New(time.Since(s.src.Started).Truncate(time.Second))
	s.writeJSON(w, &adminv3.ServerInfo{
		Version: s.version(), State: s.state(), UptimeCurrentEpoch: uptime, UptimeAllEpochs: uptime,
		HotRestartVersion: hotRestart, Node: s.src.Node,
		CommandLineOptions: &adminv3.CommandLineOptions{
			Concurrency: uint32(runtime.GOMAXPROCS(0)), //nolint:gosec // a number of threads
			LogLevel:    s.loggers.level(mainLogger), ServiceCluster: s.src.Node.GetCluster(), ServiceNode: s.src.Node.GetId(),
			ServiceZone: s.src.Node.GetLocality().GetZone(), DisableHotRestart: true, DrainStrategy: adminv3.CommandLineOptions_Immediate,
			Mode: adminv3.CommandLineOptions_Serve,
		},
	})
}

// version has Envoy's five parts: revision, version, state of the source tree, kind of build, TLS library.
func (s *Server) version() string {
	revision, tree := s.src.Revision, "Clean"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, set := range info.Settings {
			switch {
			case set.Key == "vcs.revision" && revision == "":
				revision = set.Value
			case set.Key == "vcs.modified" && set.Value == "true":
				tree = "Modified"
			}
		}
	}
	if revision == "" {
		revision = "0" // a build without version control
	}
	return revision + "/" + s.src.Version + "/" + tree + "/RELEASE/" + runtime.Version()
}

// hotRestart is Envoy's word for not having it.
const hotRestart = "disabled"

func (s *Server) hotRestartPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", plainText)
	_, _ = w.Write([]byte(hotRestart + "\n"))
}

// runtimePage answers /runtime: there is no runtime layer that could override anything.
func (s *Server) runtimePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", jsonText)
	_, _ = w.Write([]byte("{\n \"layers\": [],\n \"entries\": {}\n}\n"))
}
