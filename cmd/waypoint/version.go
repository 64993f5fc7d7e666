package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/gowaypoint/gowaypoint/waypoint/bootstrap"
)

// version is set by the linker: -X main.version=1.2.3.
var version = "0.1.0"

func versionCommand() *cobra.Command {
	var output string
	var short bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			switch {
			case output == "json":
				return json.NewEncoder(out).Encode(map[string]any{"clientVersion": map[string]string{
					"version": version, "revision": revision(), "golang_version": runtime.Version(), "istio_version": bootstrap.IstioVersion,
				}})
			case output != "":
				return fmt.Errorf("output %q is not known; use json", output)
			case short:
				fmt.Fprintln(out, version)
			default:
				fmt.Fprintf(out, "gowaypoint %s (revision %s, %s), speaks Istio %s\n", version, revision(), runtime.Version(), bootstrap.IstioVersion)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	c.Flags().BoolVarP(&short, "short", "s", false, "the version only")
	return c
}

// revision is the commit that the binary was built from.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
