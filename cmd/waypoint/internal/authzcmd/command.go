package authzcmd

import (
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Command is waypoint authz.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "authz",
		Short: "Check, explain, test and compare AuthorizationPolicy without a cluster",
		Long: `Decide what Istio's AuthorizationPolicy objects do with a request, and say why, from files alone: no cluster, no proxy.

Every verb reads the same input (-f, repeatable; but for test and diff -f may be left out): YAML or JSON files, directories with their subdirectories, "-" for standard
input, kubectl get -o yaml lists, and for check, explain and convert also Envoy's config_dump and
istioctl proxy-config listener -o json.

The verdict is that of a waypoint for one target: a Service, a ServiceEntry or a Gateway.`,
		Example: `  waypoint authz check -f policies/ --source cluster.local/ns/shop/sa/web --method POST --path /orders
  kubectl get authorizationpolicies,services,gateways,namespaces -A -o yaml | waypoint authz explain -f - --for Service/shop/cart --path /
  istioctl proxy-config listener deploy/waypoint -o json | waypoint authz convert -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		// The proxy drains on a signal. Here nothing is lost: Ctrl-C ends a long search at once.
		PersistentPreRun: func(*cobra.Command, []string) { signal.Reset(syscall.SIGINT, syscall.SIGTERM) },
	}
	c.AddCommand(checkCommand(), explainCommand(), convertCommand(), testCommand(), diffCommand(), lintCommand())
	return c
}
