// Package charts is the Helm chart as data, for tests: those are in another module, and `go test` notices changes of what a package
// embeds, but not of files outside the module that a test happens to read.
//
// People use the directory: helm install waypoint charts/waypoint.
package charts

import (
	"embed"
	"io/fs"
)

// The prefix all: takes the files whose names begin with _ and . too, as Helm does.
//
//go:embed all:waypoint
var files embed.FS

// Waypoint returns the chart's directory.
func Waypoint() fs.FS {
	sub, err := fs.Sub(files, "waypoint")
	if err != nil {
		panic(err) // only for a path that is not valid, and this one is constant
	}
	return sub
}
