package authzcmd

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func checkCommand() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "check -f <files> [--source …] [--method …] [--path …]",
		Short: "Say whether a request is allowed, and by which policy",
		Long: `Say whether a request is allowed, and by which policy.

Exit code: 0 allowed, 1 denied, 2 if nothing can be said (what is wrong is on standard error).

Where a policy with action CUSTOM matches, its extension provider has the last word: allowed then means that the other
policies allow it. What a policy asks about and you did not give counts as not there, and is named.`,
		Example: `  # May web POST an order?
  waypoint authz check -f policies/ --source cluster.local/ns/shop/sa/web --method POST --path /orders

  # One of several Services, a port, a header with two values
  waypoint authz check -f policies/ --for Service/shop/cart --port 8080 --header 'x-team: a' --header 'x-team: b'

  # With a token's claims
  waypoint authz check -f policies/ --path /me --jwt '{"iss": "https://issuer.example", "sub": "ann", "groups": ["admin"]}'

  # As the running waypoint is configured
  istioctl proxy-config listener deploy/waypoint -n shop -o json | waypoint authz check -f - --for Service/shop/cart --port 80 --path /`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			q.also(args)
			r, err := q.answer(cmd)
			if err != nil {
				return err
			}
			r.Notes = append(r.Notes, q.subject.notCounted()...)
			return r.finish(cmd, q.output, writeCheck)
		},
	}
	q.flags(c)
	return c
}

// finish prints a result and ends with its exit code.
func (r *result) finish(cmd *cobra.Command, output string, text func(io.Writer, *result)) error {
	if output == "json" {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			return err
		}
	} else {
		text(cmd.OutOrStdout(), r)
		for _, w := range r.Warnings {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
		}
		for _, n := range r.Notes {
			fmt.Fprintln(cmd.ErrOrStderr(), "note:", n)
		}
	}
	if r.Verdict == "DENY" {
		return exit(exitDenied)
	}
	return nil
}

// writeCheck is the verdict in a line or two.
func writeCheck(w io.Writer, r *result) {
	fmt.Fprintf(w, "%s: %s\n", r.Verdict, r.Because)
	writeBeside(w, r)
	if n := r.Nearest; n != nil {
		fmt.Fprintf(w, "  nearest: %s", n.short())
		for i, reason := range n.Reasons {
			if i > 0 {
				fmt.Fprint(w, ";")
			} else {
				fmt.Fprint(w, ":")
			}
			fmt.Fprint(w, " ", reason.String())
		}
		fmt.Fprintln(w)
	}
}

// writeBeside says what there is beside the verdict.
func writeBeside(w io.Writer, r *result) {
	if c := r.Custom; c != nil {
		if r.Verdict == "ALLOW" {
			fmt.Fprintf(w, "  but extension provider %q has the last word: CUSTOM policy %s matches\n", c.Provider, c.short())
		} else {
			fmt.Fprintf(w, "  extension provider %q is asked first: CUSTOM policy %s matches\n", c.Provider, c.short())
		}
	}
	if r.Audit != nil {
		fmt.Fprintf(w, "  audited: %s matches\n", r.Audit)
	}
	for _, d := range []*dryRun{r.DryRunDeny, r.DryRunAllow} {
		switch {
		case d == nil:
		case d.Policy != nil:
			fmt.Fprintf(w, "  dry run: would be %s by %s\n", d.Verdict, d.Policy)
		case d.Verdict == "DENY":
			fmt.Fprintln(w, "  dry run: would be DENY, since no dry-run ALLOW policy matches")
		}
	}
}

// String says why a condition does not hold, in one line.
func (r *reason) String() string {
	if r.AnyOf == nil {
		return fmt.Sprintf("%s is %s, wanted %s", r.Attribute, r.Got, r.Wanted)
	}
	s := "one of ("
	for i, alternative := range r.AnyOf {
		if i > 0 {
			s += ") or ("
		}
		for j := range alternative {
			if j > 0 {
				s += ", "
			}
			s += alternative[j].String()
		}
	}
	return s + ")"
}
