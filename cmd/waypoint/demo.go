package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/demo"
)

func demoCommand() *cobra.Command {
	o := demo.Options{Version: version, Admin: adminSources}
	var once bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run everything on this machine: control plane, waypoint, client, destination",
		Long: `Runs the waypoint with an embedded control plane, a CA, a client node and a destination node with a hello-world
service, all on loopback. Manifests are taken from a directory and reloaded when they change.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.OutOrStdout()
			if !once {
				return demo.Run(cmd.Context(), o)
			}
			err := demo.Once(cmd.Context(), o)
			if errors.Is(err, demo.ErrUnexpected) {
				return exitCode(1) // the table has said it
			}
			return err
		},
	}
	c.Flags().StringVarP(&o.Dir, "filename", "f", "", "directory with manifests (Service, Deployment, Gateway, AuthorizationPolicy, HTTPRoute …)")
	c.Flags().BoolVar(&once, "once", false, "make the demo's own requests, print a table, exit 1 when an answer is not the expected one")
	c.Flags().StringVar(&o.Listen, "listen", "", "the way in (default 127.0.0.1:8080, or a free port when that is taken)")
	return c
}
