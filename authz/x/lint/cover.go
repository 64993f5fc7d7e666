package lint

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
	"github.com/gowaypoint/gowaypoint/authz/x/query"
)

// prover decides what can be proved of the patterns of a mesh. "No" always means "not proved".
type prover struct {
	target   istio.Target
	compiled map[string]alternative.Matcher // tests that were asked before
}

func newProver(t istio.Target) prover { return prover{t, map[string]alternative.Matcher{}} }

// alternative reports whether whatever matches b matches a too.
func (pr prover) alternative(a, b *alternative.Alternative) bool {
	for i := range a.Tests {
		if !pr.implied(&a.Tests[i], a, b) {
			return false
		}
	}
	return true
}

// implied reports whether everything that matches b passes the test t of a.
func (pr prover) implied(t *alternative.Test, a, b *alternative.Alternative) bool {
	if len(t.Values) > 0 && !pr.anyOf(b, t.Dimension, func(o *alternative.Test) bool {
		return len(o.Values) > 0 && all(o.Values, func(v string) bool { return pr.oneCovers(t, a, o, b, v) })
	}) {
		return false
	}
	return all(t.Not, func(n string) bool {
		return pr.anyOf(b, t.Dimension, func(o *alternative.Test) bool {
			if sameForm(t, o, a, b) && some(o.Not, func(v string) bool { return pr.covers(o, v, t, n, a.Object().Namespace) }) {
				return true
			}
			return len(o.Values) > 0 && single(t.Dimension) && all(o.Values, func(v string) bool { return pr.excludes(t, a, o, b, n, v) })
		})
	})
}

func (pr prover) anyOf(b *alternative.Alternative, d alternative.Dimension, f func(*alternative.Test) bool) bool {
	for i := range b.Tests {
		if o := &b.Tests[i]; o.Dimension == d && f(o) {
			return true
		}
	}
	return false
}

// oneCovers reports whether a value of test t covers the value v of test o.
func (pr prover) oneCovers(t *alternative.Test, a *alternative.Alternative, o *alternative.Test, b *alternative.Alternative, v string) bool {
	if sameForm(t, o, a, b) {
		if some(t.Values, func(mine string) bool { return pr.covers(t, mine, o, v, a.Object().Namespace) }) {
			return true
		}
		if !strings.ContainsAny(v, "*{") && all(t.Values, func(mine string) bool { return !strings.ContainsAny(mine, "*{") }) {
			return false // neither has a wildcard, and they differ
		}
	}
	if r := pr.concrete(o, v); r != nil {
		only := *t
		only.Not = nil
		return pr.matches(only, a, r) == len(r)
	}
	if t.Dimension.Kind != alternative.Source {
		return false
	}
	switch form(t) {
	case "principals":
		return some(t.Values, func(mine string) bool { return mine == "*" }) // whoever has a namespace has an identity
	case "namespaces":
		return some(t.Values, func(mine string) bool {
			return form(o) == "principals" && !strings.HasPrefix(v, "*") && !strings.Contains(mine, "*") && strings.Contains(strings.TrimSuffix(v, "*"), "/ns/"+mine+"/") ||
				form(o) == "serviceAccounts" && mine == namespaceOf(v, b)
		})
	}
	return false
}

func namespaceOf(account string, a *alternative.Alternative) string {
	if ns, _, ok := strings.Cut(account, "/"); ok {
		return ns
	}
	return a.Object().Namespace
}

// excludes reports whether nothing that the value v of o matches is matched by n, an exception of t.
func (pr prover) excludes(t *alternative.Test, a *alternative.Alternative, o *alternative.Test, b *alternative.Alternative, n, v string) bool {
	if r := pr.concrete(o, v); r != nil {
		only := *t
		only.Values, only.Not = []string{n}, nil
		return pr.matches(only, a, r) == 0
	}
	return sameForm(t, o, a, b) && pr.disjoint(t, n, o, v, a.Object().Namespace)
}

// matches counts the requests that match one test of a; -1 when that cannot be told.
func (pr prover) matches(t alternative.Test, a *alternative.Alternative, requests []*authz.Request) int {
	key := fmt.Sprintf("%s %s %q %q", a.Object().Namespace, t.Name, t.Values, t.Not)
	m, known := pr.compiled[key]
	if !known {
		var err error
		if m, err = alternative.Compile([]alternative.Test{t}, a.Object().Namespace, pr.target); err != nil {
			return -1
		}
		pr.compiled[key] = m
	}
	n := 0
	for _, r := range requests {
		if m.Match(r) {
			n++
		}
	}
	return n
}

// form is the way in which a test is written: principals, or a condition on source.principal, are the same.
func form(t *alternative.Test) string {
	switch t.Name {
	case "source.principal":
		return "principals"
	case "source.namespace":
		return "namespaces"
	case "source.serviceAccount":
		return "serviceAccounts"
	case "source.trustDomain":
		return "trustDomains"
	case "request.auth.principal":
		return "requestPrincipals"
	}
	return t.Name
}

// sameForm reports whether values of two tests mean the same when they are written the same.
func sameForm(t, o *alternative.Test, a, b *alternative.Alternative) bool {
	switch t.Dimension.Kind {
	case alternative.Source, alternative.Token:
		return form(t) == form(o) && (form(t) != "serviceAccounts" || a.Object().Namespace == b.Object().Namespace)
	case alternative.Path, alternative.Method, alternative.Host: // request.headers[:path] is compared with the query
		return t.Name == o.Name
	}
	return true
}

// single reports whether a request has at most one value of the dimension. A header may come twice, a claim be a list.
func single(d alternative.Dimension) bool {
	switch d.Kind {
	case alternative.Head, alternative.Claim, alternative.Metadata, alternative.Unknown:
		return false
	}
	return true
}

// concrete are requests with every value that a test value without wildcards matches: more than one for a principal, which
// stands for all of the mesh's trust domains. It is nil where these are not known.
func (pr prover) concrete(t *alternative.Test, v string) []*authz.Request {
	if strings.ContainsAny(v, "*{") || v == "" {
		return nil
	}
	q := query.Query{Method: "GET", Path: "/"}
	queries := []query.Query{q}
	switch form(t) {
	case "principals":
		queries = nil
		for _, id := range pr.aliases(v) {
			q.Source = id
			queries = append(queries, q)
		}
	case "requestPrincipals":
		i := strings.LastIndexByte(v, '/')
		if i < 0 {
			return nil
		}
		queries[0].Claims = map[string]any{"iss": v[:i], "sub": v[i+1:]}
	case "methods":
		queries[0].Method = v
	default: // a path is also compared with its query, a host in any case
		return nil
	}
	var out []*authz.Request
	for i := range queries {
		r, err := queries[i].Request(pathnorm.None)
		if err != nil {
			return nil
		}
		out = append(out, r)
	}
	return out
}

// aliases of a principal, as istiod writes them out: only those of five parts.
func (pr prover) aliases(v string) []string {
	domain, rest, _ := strings.Cut(v, "/")
	if strings.Count(v, "/") != 4 || strings.Contains(domain, "*") || domain != "cluster.local" && !slices.Contains(pr.target.TrustDomains, domain) {
		return []string{v}
	}
	var out []string
	for _, d := range pr.target.TrustDomains {
		out = append(out, d+"/"+rest)
	}
	if len(out) == 0 {
		return []string{v}
	}
	return out
}

// forms are the values that a test value stands for in policies of a namespace.
func (pr prover) forms(t *alternative.Test, v, namespace string) []string {
	switch form(t) {
	case "principals":
		return pr.aliases(v)
	case "serviceAccounts":
		if !strings.Contains(v, "/") {
			v = namespace + "/" + v
		}
	}
	return []string{v}
}

// covers reports whether the value x of t matches whatever the value y of o matches. The tests are of the same form.
func (pr prover) covers(t *alternative.Test, x string, o *alternative.Test, y, namespace string) bool {
	return all(pr.forms(o, y, namespace), func(w string) bool {
		return some(pr.forms(t, x, namespace), func(v string) bool { return covers(t.Dimension, v, w) })
	})
}

// disjoint reports whether nothing matches both values. The tests are of the same form.
func (pr prover) disjoint(t *alternative.Test, x string, o *alternative.Test, y, namespace string) bool {
	return all(pr.forms(o, y, namespace), func(w string) bool {
		return all(pr.forms(t, x, namespace), func(v string) bool { return disjoint(t.Dimension, v, w) })
	})
}

// covers reports whether the pattern a matches whatever b matches.
func covers(d alternative.Dimension, a, b string) bool {
	switch d.Kind {
	case alternative.SourceIP, alternative.RemoteIP, alternative.DestinationIP:
		p, q, ok := prefixes(a, b)
		return ok && p.Bits() <= q.Bits() && p.Contains(q.Addr())
	case alternative.Port:
		return a == b
	case alternative.Host:
		a, b = strings.ToLower(a), strings.ToLower(b)
	case alternative.Source, alternative.Token:
		if strings.Count(a, "*") == 1 && strings.Contains(strings.Trim(a, "*"), "*") { // of namespaces
			return a == b
		}
	}
	switch {
	case a == b:
		return true
	case strings.Contains(a, "{*}") || strings.Contains(a, "{**}"):
		return covered(a, b)
	case b == "" || strings.Contains(b, "{*}") || strings.Contains(b, "{**}"):
		head := b[:max(strings.IndexByte(b, '{'), 0)]
		return a == "*" || strings.HasSuffix(a, "*") && !strings.HasPrefix(a, "*") && strings.HasPrefix(head, a[:len(a)-1])
	case a == "*":
		return true
	case strings.HasPrefix(a, "*"):
		if b == "*" || strings.HasSuffix(b, "*") && !strings.HasPrefix(b, "*") {
			return false
		}
		return strings.HasSuffix(strings.TrimPrefix(b, "*"), a[1:])
	case strings.HasSuffix(a, "*"):
		return !strings.HasPrefix(b, "*") && strings.HasPrefix(strings.TrimSuffix(b, "*"), a[:len(a)-1])
	}
	return false
}

// covered reports whether a template matches a path without wildcards.
func covered(template, path string) bool {
	if strings.ContainsAny(path, "*{") {
		return false
	}
	t, err := authz.ParseTemplate(strings.NewReplacer("{*}", "*", "{**}", "**").Replace(template))
	return err == nil && t.Match(path)
}

// disjoint reports whether no value matches both patterns.
func disjoint(d alternative.Dimension, a, b string) bool {
	switch d.Kind {
	case alternative.SourceIP, alternative.RemoteIP, alternative.DestinationIP:
		p, q, ok := prefixes(a, b)
		return ok && !p.Overlaps(q)
	case alternative.Host:
		a, b = strings.ToLower(a), strings.ToLower(b)
	}
	wild := func(s string) bool { return strings.ContainsAny(s, "*{") }
	switch {
	case !wild(a) && !wild(b):
		return a != b
	case strings.ContainsAny(a+b, "{"):
		return false
	case !wild(b):
		return !covers(d, a, b)
	case !wild(a):
		return !covers(d, b, a)
	case strings.HasSuffix(a, "*") && strings.HasSuffix(b, "*"):
		x, y := strings.TrimSuffix(a, "*"), strings.TrimSuffix(b, "*")
		return !wild(x+y) && !strings.HasPrefix(x, y) && !strings.HasPrefix(y, x)
	}
	return false
}

func prefixes(a, b string) (p, q netip.Prefix, ok bool) {
	p, okA := prefix(a)
	q, okB := prefix(b)
	return p, q, okA && okB
}

func prefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err == nil
}

func all(list []string, f func(string) bool) bool {
	for _, v := range list {
		if !f(v) {
			return false
		}
	}
	return true
}

func some(list []string, f func(string) bool) bool {
	for _, v := range list {
		if f(v) {
			return true
		}
	}
	return false
}
