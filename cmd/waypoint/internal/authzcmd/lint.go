package authzcmd

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gowaypoint/gowaypoint/authz/x/lint"
)

// lintRun is one run of waypoint authz lint.
type lintRun struct {
	input
	disabled []string
	rules    bool
	output   string
}

func lintCommand() *cobra.Command {
	var r lintRun
	c := &cobra.Command{
		Use:   "lint -f <files>",
		Short: "Find mistakes in policies: rules that never matter, or do something else than meant",
		Long: `Find mistakes in policies: rules that never matter, rules that say something else than they seem to, and rules that the
traffic of an ambient mesh passes by.

The more of the mesh is in the input, the more is found: Services, ServiceEntries, Gateways, Namespaces, Deployments,
RequestAuthentications, MeshConfig. --rules lists what is looked for. A rule is turned off with --disable, or for one policy with
its annotation ` + lint.DisableAnnotation + `: <rule>,<rule>.

Exit code: 0 nothing but notes, 1 warnings or errors, 2 the input is wrong.`,
		Example: `  waypoint authz lint -f policies/
  kubectl get authorizationpolicies,requestauthentications,services,gateways,namespaces,deployments -A -o yaml | waypoint authz lint -f -
  waypoint authz lint -f policies/ --disable path-bypass,host-port`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.also(args)
			return r.run(cmd)
		},
	}
	r.input.flags(c)
	c.Flags().StringSliceVar(&r.disabled, "disable", nil, "rules not to look for")
	c.Flags().BoolVar(&r.rules, "rules", false, "list the rules, and look for nothing")
	c.Flags().StringVarP(&r.output, "output", "o", "text", "text or json")
	return c
}

func (r *lintRun) run(cmd *cobra.Command) error {
	known := lint.Rules()
	switch {
	case r.output != "text" && r.output != "json":
		return fmt.Errorf("--output: %q; want text or json", r.output)
	case r.rules:
		return listRules(cmd.OutOrStdout(), known)
	}
	for _, id := range r.disabled {
		if !slices.ContainsFunc(known, func(rule lint.Rule) bool { return rule.ID == id }) {
			return fmt.Errorf("--disable: there is no rule %q; waypoint authz lint --rules lists them", id)
		}
	}
	set, err := r.load(cmd)
	if err != nil {
		return err
	}
	if len(set.Policies)+len(set.Authentications) == 0 {
		return noPolicies(set, "lint")
	}
	findings := lint.Check(set, lint.Options{Disabled: r.disabled})
	if r.output == "json" {
		if findings == nil {
			findings = []lint.Finding{}
		}
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(findings); err != nil {
			return err
		}
	} else {
		writeFindings(cmd.OutOrStdout(), findings)
	}
	if lint.Failing(findings) > 0 {
		return exit(exitDenied)
	}
	return nil
}

func writeFindings(w io.Writer, findings []lint.Finding) {
	count := map[lint.Severity]int{}
	for _, f := range findings {
		count[f.Severity]++
		fmt.Fprintln(w, f)
	}
	var parts []string
	for _, s := range []struct {
		severity  lint.Severity
		one, many string
	}{{lint.Error, "error", "errors"}, {lint.Warning, "warning", "warnings"}, {lint.Info, "note", "notes"}} {
		word := s.many
		if count[s.severity] == 1 {
			word = s.one
		}
		parts = append(parts, fmt.Sprintf("%d %s", count[s.severity], word))
	}
	fmt.Fprintln(w, strings.Join(parts, ", "))
}

func listRules(w io.Writer, rules []lint.Rule) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rules {
		fmt.Fprintf(t, "%s\t%s\t%s\n", r.ID, r.Severity, r.Summary)
	}
	return t.Flush()
}
