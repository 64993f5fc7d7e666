package istio

import (
	"slices"
	"strings"
)

// defaultTrustDomain in a policy means the mesh's own trust domain, whatever that is called.
const defaultTrustDomain = "cluster.local"

// aliases writes a principal of one of the mesh's trust domains once for each of them. Left as they are: a trust domain
// "*", one of another mesh, and what is not of the form trustdomain/ns/namespace/sa/account.
func (t *translator) aliases(principals []string) []string {
	var out []string
	for _, p := range principals {
		td, rest, _ := strings.Cut(p, "/")
		if strings.Count(p, "/") != 4 || td == "*" || td != defaultTrustDomain && !overlapsAny(td, t.target.TrustDomains) {
			out = append(out, p)
			continue
		}
		var own []string
		for _, alias := range t.target.TrustDomains {
			name := alias + "/" + rest
			if hasWildcardSuffix(alias, td) { // "*-domain" stays as it is for all that it covers
				name = p
			}
			if !slices.Contains(own, name) {
				own = append(own, name)
			}
		}
		out = append(out, own...)
	}
	return out
}

// expand writes one of the mesh's trust domains as all of them, and everything once.
func (t *translator) expand(domains []string) []string {
	var out []string
	add := func(d string) {
		if !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	for _, d := range domains {
		if !slices.Contains(t.target.TrustDomains, d) {
			add(d)
			continue
		}
		for _, alias := range t.target.TrustDomains {
			add(alias)
		}
	}
	return out
}

// overlapsAny tells whether a trust domain is one of the list. Either side may have a wildcard at one end.
func overlapsAny(td string, list []string) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		return td == s || s == "*" || hasWildcardPrefix(td, s) || hasWildcardPrefix(s, td) || hasWildcardSuffix(td, s) || hasWildcardSuffix(s, td)
	})
}

// hasWildcardPrefix tells whether the pattern is "x*" and s begins with x.
func hasWildcardPrefix(s, pattern string) bool {
	x, ok := strings.CutSuffix(pattern, "*")
	return ok && strings.HasPrefix(s, x)
}

// hasWildcardSuffix tells whether the pattern is "*x" and s ends with x.
func hasWildcardSuffix(s, pattern string) bool {
	x, ok := strings.CutPrefix(pattern, "*")
	return ok && strings.HasSuffix(s, x)
}
