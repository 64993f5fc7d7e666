package authzcmd

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// input is the flags that say what to read.
type input struct {
	files     []string
	namespace string
	verbose   bool
}

func (in *input) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVarP(&in.files, "file", "f", nil, `file or directory to read (repeatable); "-" is standard input`)
	f.StringVarP(&in.namespace, "namespace", "n", "default", "namespace of objects that do not name one")
	f.BoolVarP(&in.verbose, "verbose", "v", false, "say also what was not looked at")
}

// also takes arguments that are no flags as further files, so that "lint policies/" and what a shell makes of "-f policies/*.yaml"
// mean what they look like.
func (in *input) also(args []string) { in.files = append(in.files, args...) }

// noPolicies says that a verb that needs policies has none, and where they would come from.
func noPolicies(set *manifest.Set, verb string) error {
	if len(set.Chains) > 0 {
		return fmt.Errorf("%s reads AuthorizationPolicy objects, and the input has Envoy's filter chains: waypoint authz convert makes policies of them", verb)
	}
	return errors.New("the input has no AuthorizationPolicy (-v says what was passed over)")
}

// load reads the input, and with -v says what of it was passed over.
func (in *input) load(cmd *cobra.Command) (*manifest.Set, error) {
	if len(in.files) == 0 {
		return nil, errors.New("nothing to read: name files or directories with -f")
	}
	set, err := manifest.Load(in.files, manifest.Options{Stdin: cmd.InOrStdin(), Namespace: in.namespace})
	if many := (manifest.Errors)(nil); errors.As(err, &many) && len(many) > 1 {
		return nil, fmt.Errorf("%d things are wrong with the input:\n%w", len(many), err)
	}
	if err != nil {
		return nil, err
	}
	if in.verbose {
		for _, i := range set.Ignored {
			fmt.Fprintln(cmd.ErrOrStderr(), "not looked at:", i)
		}
	}
	return set, nil
}

// choice is the flags that say for which chain of which waypoint.
type choice struct {
	manifest.Choice
	version string
}

func (c *choice) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.For, "for", "", "Service/<namespace>/<name>, or ServiceEntry/… or Gateway/…; by default the only one that the policies leave")
	f.StringVar(&c.Waypoint, "waypoint", "", "<namespace>/<name> of the waypoint that serves it; by default as the input says")
	f.BoolVar(&c.TCP, "tcp", false, "a port that is not HTTP")
	f.StringSliceVar(&c.TrustDomains, "trust-domain", nil, "trust domain of the mesh, and after it its aliases; by default MeshConfig's, else cluster.local")
	f.StringVar(&c.version, "istio", "", "version of istiod, such as 1.27; by default the newest that is known")
}

// read checks the flags.
func (c *choice) read() (err error) {
	if c.Version, err = istio.ParseVersion(c.version); err != nil {
		return fmt.Errorf("--istio: %w", err)
	}
	return nil
}

// target finds the target, and tells what was assumed.
func (c *choice) target(cmd *cobra.Command, set *manifest.Set) (manifest.Target, error) {
	t, err := set.Target(c.Choice)
	for _, note := range t.Notes {
		fmt.Fprintln(cmd.ErrOrStderr(), "note:", note)
	}
	return t, err
}
