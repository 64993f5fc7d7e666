package authzcmd

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz"
)

// hints look for conditions that do not hold by a hair, where the policy probably means more than it says.
func hints(x *authz.ChainExplanation) []string {
	var out []string
	seen := map[string]bool{}
	var walk func(list []authz.Reason)
	walk = func(list []authz.Reason) {
		for _, r := range list {
			for _, alternative := range r.AnyOf {
				walk(alternative)
			}
			if h := hint(&r); h != "" && !seen[h] {
				seen[h] = true
				out = append(out, h)
			}
		}
	}
	for i := range x.Stages {
		for _, e := range []*authz.Explanation{x.Stages[i].Shadow, x.Stages[i].Enforced} {
			if e == nil {
				continue
			}
			for j := range e.Policies {
				if !e.Policies[j].Matched {
					walk(e.Policies[j].Reasons)
				}
			}
		}
	}
	return out
}

func hint(r *authz.Reason) string {
	got, err := strconv.Unquote(r.Got)
	wants := wanted(r.Attribute, r.Wanted)
	if err != nil || strings.HasPrefix(wants, "not ") {
		return ""
	}
	switch attribute(r.Attribute) {
	case "host":
		host, port, err := net.SplitHostPort(got)
		if err == nil && strings.Contains(strings.ToLower(wants), strconv.Quote(strings.ToLower(host))) {
			return fmt.Sprintf("the host is %q with the port, and the policy says %q without: a client sends the port where it is not the usual one; "+
				"write hosts: [%q, %q]", got, host, host, host+":"+port)
		}
		if err != nil && strings.Contains(strings.ToLower(wants), `"`+strings.ToLower(got)+":") {
			return fmt.Sprintf("the host is %q without a port, and the policy wants one: a client leaves out the usual one; add %q to hosts", got, got)
		}
	case "method":
		if upper := strings.ToUpper(got); upper != got && strings.Contains(wants, strconv.Quote(upper)) {
			return fmt.Sprintf("methods are compared with their case: %q is not %q", got, upper)
		}
		if lower := strings.ToLower(got); strings.Contains(wants, strconv.Quote(lower)) {
			return fmt.Sprintf("methods are compared with their case: the policy says %q, and clients send %q", lower, got)
		}
	case "source principal":
		if strings.Contains(wants, `"spiffe://`+strings.TrimPrefix(got, spiffe)+`"`) {
			return "the policy writes the principal with spiffe:// before it, which stands for an identity that begins with spiffe://spiffe://; leave it out"
		}
	case "path":
		if before, _, found := strings.Cut(got, "?"); !found && strings.Contains(wants, strconv.Quote(before+"/*")) {
			return fmt.Sprintf("the path %q is not one of %q, which begin with %q: add %q if that is meant too", got, before+"/*", before+"/", before)
		}
	}
	return ""
}
