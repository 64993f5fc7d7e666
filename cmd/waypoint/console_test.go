package main

import (
	"context"
	"flag"
	"io"
	"path/filepath"
	"testing"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/consoletest"
)

var update = flag.Bool("update", false, "rewrite what the examples of the documents and of testdata print")

// Every example of the documents is run, and so are the fixtures of testdata/authz, which have the same form: prose, files,
// and commands with what they print.
func TestConsole(t *testing.T) {
	fixtures, err := filepath.Glob("testdata/authz/*.txt")
	if err != nil || len(fixtures) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, file := range append(fixtures, "../../README.md", "../../docs/authz.md") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			consoletest.Run(t, file, "waypoint", func(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
				root := command()
				root.SetArgs(args)
				root.SetIn(stdin)
				root.SetOut(stdout)
				root.SetErr(stderr)
				return run(context.Background(), root)
			}, *update)
		})
	}
}
