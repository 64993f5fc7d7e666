package main

import (
	"log/slog"
	"maps"
	"os"
	"slices"

	"github.com/gowaypoint/gowaypoint/waypoint"
	"github.com/gowaypoint/gowaypoint/waypoint/admin"
	"github.com/gowaypoint/gowaypoint/waypoint/bootstrap"
)

// adminSources is what the admin pages show of a server.
func adminSources(s *waypoint.Server, reports []bootstrap.Report, level *slog.LevelVar, quit func()) admin.Sources {
	return admin.Sources{
		Node: s.Node(), Settings: reports, Version: version, Revision: revision(), Started: s.Started(),
		XDS: s.XDS(), Secrets: s.Secrets().Secrets, Report: s.Report, Clusters: s.Clusters().All, Workloads: s.Workloads,
		Listeners: func() []admin.Listener {
			bound := s.Listeners()
			var out []admin.Listener
			for _, name := range slices.Sorted(maps.Keys(bound)) {
				out = append(out, admin.Listener{Name: name, Addresses: bound[name]})
			}
			return out
		},
		Ready: s.Ready, Draining: s.Draining, Drain: s.StartDrain,
		Quit:     func() { quit(); os.Exit(0) }, // no drain: that is what the page is for
		Registry: s.Registry(), Level: level,
	}
}

func adminOptions(b *bootstrap.Bootstrap, log *slog.Logger) admin.Options {
	loopback, any := "127.0.0.1", ""
	if b.IPs[0].Is6() {
		loopback = "::1"
	}
	prometheus := any
	if b.Stats.LocalhostOnly {
		prometheus = loopback
	}
	return admin.Options{
		AdminAddr: address(loopback, b.Ports.Admin), StatusAddr: address(any, b.Ports.Status), HealthAddr: address(any, b.Ports.Health),
		PrometheusAddr: address(prometheus, b.Ports.Prometheus), Logger: log,
	}
}
