package authzcmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
	"github.com/gowaypoint/gowaypoint/authz/x/policytest"
)

// casesRun is one run of waypoint authz test.
type casesRun struct {
	input
	choice
	mode        string
	junit       string
	minCoverage float64
	set         *manifest.Set
}

func testCommand() *cobra.Command {
	var r casesRun
	c := &cobra.Command{
		Use:   "test -f <files> <cases.yaml>…",
		Short: "Try a table of cases, and say which rules no case hits",
		Long: `Try a table of cases: who asks for what, what is to come of it, and by which policy.

  defaults: {for: Service/shop/cart, host: cart, port: 80}
  clients:
    web: cluster.local/ns/shop/sa/web
  cases:
  - name: shoppers read their cart
    from: [web]                     # each client with each operation
    to: [GET /cart, HEAD /cart]
    expect: allow                   # allow, deny or ask (an extension provider)
    by: shop/readers                # optional: namespace/name, namespace/name[rule], or none
  - name: a table
    to:       [GET /cart, POST /cart]
    expect:
      web:    [allow,     deny]
      nobody: deny                  # the client without an identity

Fields of a request, in defaults, a case, an entry of from, an entry of to: source, sourceIp, remoteIp, jwt (claims), method, path,
host, scheme, headers, port, destinationIp, sni, tcp, metadata; and in defaults and cases for.

Exit code: 0 all passed, 1 some failed or too little is covered, 2 the input or the table is wrong.`,
		Example: `  waypoint authz test -f policies/ cases.yaml
  waypoint authz test -f policies/ --junit report.xml --min-coverage 90 tests/*.yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("no cases: name one or more files with tables of cases, and the policies with -f: waypoint authz test -f policies/ cases.yaml")
			}
			return nil
		},
		RunE: r.run,
	}
	r.input.flags(c)
	r.choice.flags(c)
	c.Flags().StringVar(&r.mode, "path-normalization", "", modeHelp)
	c.Flags().StringVar(&r.junit, "junit", "", "file to write the outcomes to, in JUnit's XML")
	c.Flags().Float64Var(&r.minCoverage, "min-coverage", 0, "fail if fewer percent of the rules' alternatives are hit")
	return c
}

const modeHelp = "NONE, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES; by default MeshConfig's, else BASE"

func (r *casesRun) run(cmd *cobra.Command, files []string) error {
	if err := r.read(); err != nil {
		return err
	}
	cases, err := readCases(files, cmd.InOrStdin())
	if err != nil {
		return err
	}
	if r.set, err = r.load(cmd); err != nil {
		return err
	}
	if len(r.set.Policies) == 0 {
		return noPolicies(r.set, "test")
	}
	paths, err := normalization(r.set, r.mode)
	if err != nil {
		return err
	}
	result, err := policytest.Run(cases, r.set.IstioPolicies(), policytest.Options{Paths: paths, Resolve: r.resolve, Refuse: r.refuse, Words: plainWords})
	if err != nil {
		return r.set.Locate(err)
	}
	if err := result.WriteText(cmd.OutOrStdout(), func(policy int, field string) string { return r.set.Policies[policy].At(field).String() }); err != nil {
		return err
	}
	if r.junit != "" {
		if err := writeJUnit(r.junit, result); err != nil {
			return err
		}
	}
	switch covered := result.Coverage.Percent(); {
	case covered < r.minCoverage:
		fmt.Fprintf(cmd.ErrOrStderr(), "coverage of %.0f %% is below --min-coverage %g\n", covered, r.minCoverage)
		return exit(exitDenied)
	case result.Failed() > 0:
		return exit(exitDenied)
	}
	return nil
}

// readCases reads all tables, and tells all that is wrong with them at once.
func readCases(files []string, stdin io.Reader) ([]policytest.Case, error) {
	var all []policytest.Case
	var errs []error
	for _, file := range files {
		var data []byte
		var err error
		name := file
		if file == "-" {
			name = "standard input"
			data, err = io.ReadAll(stdin)
		} else {
			data, err = os.ReadFile(file)
		}
		if err != nil {
			if at := (*fs.PathError)(nil); errors.As(err, &at) {
				err = at.Err // the name comes first, as in all other messages
			}
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		cases, err := policytest.Parse(name, data)
		all, errs = append(all, cases...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

// resolve finds the target of a case, and by it the port and the protocol.
func (r *casesRun) resolve(c *policytest.Case) (istio.Target, error) {
	choice := r.Choice
	if c.For != "" {
		choice.For = c.For
	}
	choice.TCP = r.TCP || c.Query.TCP
	target, err := r.set.Target(choice)
	if err != nil {
		return istio.Target{}, err
	}
	if c.For == "" {
		c.For = manifest.ObjectName(target.Object)
	}
	if c.Query.Port == 0 {
		c.Query.Port = onlyPort(r.set, target.Object)
	}
	if p, known := portOf(r.set, target.Object, c.Query.Port); known && !p.HTTP {
		target.TCP = true
	}
	c.Query.TCP = target.TCP
	return target.Target, nil
}

// refuse does what the waypoint's JWT filter does with the case's token.
func (r *casesRun) refuse(c *policytest.Case) string {
	if c.Query.Claims == nil || c.Query.TCP {
		return ""
	}
	choice := r.Choice
	choice.For = c.For
	target, err := r.set.Target(choice)
	if err != nil {
		return err.Error()
	}
	claims, status, why := authenticate(&token{claims: c.Query.Claims}, jwtRules(r.set, &target), time.Now())
	if status != 0 {
		return why
	}
	c.Query.Claims = claims
	return ""
}

// plainWords puts a reason into the words of policies.
func plainWords(r authz.Reason) authz.Reason {
	return authz.Reason{Attribute: attribute(r.Attribute), Wanted: wanted(r.Attribute, r.Wanted), Got: got(r.Attribute, r.Got)}
}

func writeJUnit(file string, result *policytest.Result) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(result.WriteJUnit(f), f.Close())
}
