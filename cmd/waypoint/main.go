// Command waypoint is an Istio ambient waypoint.
//
//	waypoint proxy waypoint …   run as the container istio-proxy of a waypoint pod (contract P2: pilot-agent's arguments)
//	waypoint request GET /…     ask a port of a running waypoint, as pilot-agent does
//	waypoint wait               wait until the waypoint next to us is ready
//	waypoint version            what this is
//	waypoint demo               everything on one machine: control plane, client, destination (see README)
//	waypoint authz …            what AuthorizationPolicy does with a request, from files (see docs/authz.md)
//
// It behaves the same under the name pilot-agent, which the pod's template expects in the image. One file per command.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gowaypoint/gowaypoint/cmd/waypoint/internal/authzcmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, command())
	stop()
	os.Exit(code)
}

// run executes a command and returns the process's exit code.
func run(ctx context.Context, root *cobra.Command) int {
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var code interface{ ExitCode() int }
	if errors.As(err, &code) {
		return code.ExitCode()
	}
	fmt.Fprintln(root.ErrOrStderr(), "Error:", err)
	if authzcmd.Owns(c) {
		return 2
	}
	return 255 // pilot-agent ends with -1
}

// exitCode ends the process with a code after the command has said all there is to say.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit %d", int(c)) }

// ExitCode is that code.
func (c exitCode) ExitCode() int { return int(c) }

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "waypoint",
		Short:         "An Istio ambient waypoint that is not Envoy",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(proxyCommand(), requestCommand(), waitCommand(), versionCommand(), demoCommand(), authzcmd.Command())
	return root
}
