package authzcmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
	"github.com/gowaypoint/gowaypoint/authz/x/policydiff"
	"github.com/gowaypoint/gowaypoint/authz/x/query"
	"github.com/gowaypoint/gowaypoint/authz/x/witness"
)

// diffRun is one run of waypoint authz diff.
type diffRun struct {
	input
	choice
	mode   string
	limit  int
	output string
	names  [2]string // of the inputs
	sets   [2]*manifest.Set
	paths  [2]pathnorm.Options
}

func diffCommand() *cobra.Command {
	var r diffRun
	c := &cobra.Command{
		Use:   "diff <old> <new>",
		Short: "Find requests whose verdict changes from one set of policies to another",
		Long: `Find requests whose verdict changes from one set of policies to another.

Requests are made from the constants of both sets, so that they lie on both sides of every boundary that a rule draws, and both
sets are asked. One line stands for all requests that change for the same reasons, with the simplest of them and the command
that asks for it. What opens comes first. It is a search, not a proof: that nothing is found does not mean that nothing changes.

Exit code: 0 no change found, 1 some found, 2 the input is wrong.`,
		Example: `  waypoint authz diff policies.old/ policies/
  git show main:policies.yaml | waypoint authz diff - policies.yaml --for Service/shop/cart`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errors.New("want two files or directories: the policies before and after")
			}
			return nil
		},
		RunE: r.run,
	}
	r.input.flags(c)
	if err := c.Flags().MarkHidden("file"); err != nil { // the two arguments are the input
		panic(err)
	}
	r.choice.flags(c)
	c.Flags().StringVar(&r.mode, "path-normalization", "", modeHelp)
	c.Flags().IntVar(&r.limit, "limit", witness.DefaultLimit, "requests to try for each target")
	c.Flags().StringVarP(&r.output, "output", "o", "text", "text or json")
	return c
}

// difference is what is found for targets that have the same policies.
type difference struct {
	Targets  []string `json:"targets"`
	Protocol string   `json:"protocol"`
	*policydiff.Report
	Commands []string `json:"commands"` // one for each change
}

func (r *diffRun) run(cmd *cobra.Command, args []string) error {
	switch {
	case r.output != "text" && r.output != "json":
		return fmt.Errorf("--output: %q; want text or json", r.output)
	case r.limit < 1:
		return fmt.Errorf("--limit: %d; want 1 at least", r.limit)
	case len(r.files) > 0:
		return errors.New("-f: diff takes its two inputs as arguments: diff <old> <new>")
	}
	if err := r.read(); err != nil {
		return err
	}
	for i, arg := range args {
		r.names[i], r.files = arg, []string{arg}
		var err error
		if r.sets[i], err = r.load(cmd); err != nil {
			return err
		}
		if r.paths[i], err = normalization(r.sets[i], r.mode); err != nil {
			return err
		}
	}
	found, err := r.compare()
	if err != nil {
		return err
	}
	if r.output == "json" {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(struct {
			Differences []*difference `json:"differences"`
			NotCompared []string      `json:"notCompared"`
		}{found, r.notCompared()}); err != nil {
			return err
		}
	} else {
		r.write(cmd.OutOrStdout(), found)
	}
	if slices.ContainsFunc(found, func(d *difference) bool { return len(d.Changes) > 0 }) {
		return exit(exitDenied)
	}
	return nil
}

// targets are what is compared: the one that is asked for, or all that either side has.
func (r *diffRun) targets() ([]string, error) {
	if r.For != "" {
		return []string{r.For}, nil
	}
	var out []string
	for _, set := range r.sets {
		for _, o := range set.Candidates() {
			out = append(out, manifest.ObjectName(o))
		}
	}
	if len(out) == 0 {
		for _, set := range r.sets {
			if len(set.Policies) == 0 && (len(set.Chains) > 0 || len(r.sets[0].Policies)+len(r.sets[1].Policies) == 0) {
				return nil, noPolicies(set, "diff")
			}
		}
		return nil, errors.New("no policy of either input names a Service, ServiceEntry or Gateway in targetRefs, so no waypoint enforces any: " +
			"say with --for what to compare for, such as --for Service/default/helloworld")
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// compare asks for every target once; targets that have the same policies go together.
func (r *diffRun) compare() ([]*difference, error) {
	targets, err := r.targets()
	if err != nil {
		return nil, err
	}
	var out []*difference
	known := map[string]*difference{}
	for _, name := range targets {
		for _, tcp := range r.protocols(name) {
			key, sides, options, err := r.sides(name, tcp)
			if err != nil {
				return nil, err
			}
			if d := known[key]; d != nil {
				d.Targets = append(d.Targets, name)
				continue
			}
			report, err := policydiff.Compare(sides[0], sides[1], options)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			d := &difference{Targets: []string{name}, Protocol: "HTTP", Report: report, Commands: []string{}}
			if tcp {
				d.Protocol = "TCP"
			}
			for _, c := range report.Changes {
				d.Commands = append(d.Commands, r.command(name, &c.Witness))
			}
			known[key] = d
			out = append(out, d)
		}
	}
	return out, nil
}

// ports are those that the Service has on either side, of HTTP or of the others. Nil: the input does not have the Service.
func (r *diffRun) ports(name string, tcp bool) []uint16 {
	o, err := manifest.ParseObject(name)
	if err != nil {
		return nil
	}
	var out []uint16
	for _, set := range r.sets {
		for _, s := range set.Mesh.Services {
			for _, p := range s.Ports {
				if s.Object == o && p.HTTP != tcp && !slices.Contains(out, p.Number) {
					out = append(out, p.Number)
				}
			}
		}
	}
	return out
}

// protocols of a target: both if the input has the Service, and it has ports of both kinds.
func (r *diffRun) protocols(name string) []bool {
	switch http, tcp := r.ports(name, false), r.ports(name, true); {
	case r.TCP:
		return []bool{true}
	case http != nil && tcp != nil:
		return []bool{false, true}
	case tcp != nil:
		return []bool{true}
	}
	return []bool{false}
}

// sides compiles nothing yet. The key is equal for targets for which the same policies are compared in the same way.
func (r *diffRun) sides(name string, tcp bool) (key string, sides [2]policydiff.Side, o policydiff.Options, err error) {
	var b strings.Builder
	o.Limit = r.limit
	if o.Ports = r.ports(name, tcp); len(o.Ports) == 1 {
		o.Defaults.Port = o.Ports[0]
	}
	fmt.Fprint(&b, o.Ports)
	for i, set := range r.sets {
		choice := r.Choice
		choice.For, choice.TCP = name, tcp
		target, err := set.Target(choice)
		if err != nil {
			return "", sides, o, fmt.Errorf("%s: %w", r.names[i], err)
		}
		sides[i] = policydiff.Side{Policies: set.IstioPolicies(), Target: target.Target, Paths: r.paths[i]}
		for _, rule := range jwtRules(set, &target) {
			o.Issuers = append(o.Issuers, rule.issuer)
		}
		fmt.Fprintf(&b, "\n%v %v", target.TrustDomains, target.TCP)
		for j := range set.Policies {
			if p := &set.Policies[j]; target.Names(p.Namespace, p.Spec) {
				fmt.Fprintf(&b, " %s/%s", p.Namespace, p.Name)
			}
		}
		fmt.Fprint(&b, o.Issuers)
	}
	return b.String(), sides, o, nil
}

// command asks for a request on the new side.
func (r *diffRun) command(target string, q *query.Query) string {
	s := "waypoint authz check -f " + query.Quote(r.names[1]) + " --for " + target
	if r.Waypoint != "" {
		s += " --waypoint " + query.Quote(r.Waypoint)
	}
	if r.mode != "" {
		s += " --path-normalization " + query.Quote(r.mode)
	}
	if r.namespace != "default" {
		s += " --namespace " + query.Quote(r.namespace)
	}
	if len(r.TrustDomains) > 0 {
		s += " --trust-domain " + query.Quote(strings.Join(r.TrustDomains, ","))
	}
	if r.version != "" {
		s += " --istio " + query.Quote(r.version)
	}
	return s + " " + q.Flags()
}
