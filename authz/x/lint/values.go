package lint

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
)

// values looks at each value alone.
func (l *linter) values() {
	for _, p := range l.policies {
		for _, t := range p.tests() {
			each(t, func(v, field string, not bool) { l.value(t, at{p, v, field, not}) })
			l.duplicates(p, t.Dimension, t.Values, t.Field)
			l.duplicates(p, t.Dimension, t.Not, t.NotField)
			l.ranges(p, t.Dimension, t.Values, t.Field)
			l.ranges(p, t.Dimension, t.Not, t.NotField)
			l.lists(p, t)
		}
	}
}

func (l *linter) value(t alternative.Test, x at) {
	if x.v == "" {
		return // refused as invalid
	}
	switch t.Name {
	case "principals", "source.principal":
		l.principal(x)
	case "namespaces", "source.namespace":
		l.namespace(x)
	case "serviceAccounts", "source.serviceAccount":
		l.serviceAccount(x)
	case "requestPrincipals", "request.auth.principal":
		l.requestPrincipal(x)
	}
	switch t.Dimension.Kind {
	case alternative.Method:
		l.method(x)
	case alternative.Path:
		l.path(x)
	case alternative.Host:
		l.host(x)
	case alternative.Port:
		l.port(x)
	case alternative.Head, alternative.Claim, alternative.ServerName:
		l.middle(x)
	}
}

// at is a value with its place.
type at struct {
	p     *policy
	v     string
	field string
	not   bool // of a list of exceptions
}

func (x at) report(l *linter, rule, text, fix string) { l.report(x.p, rule, x.field, text, fix) }

// consequence says what comes of a value that never matches.
func (x at) consequence() string {
	if x.not {
		return "so the exception has no effect"
	}
	switch {
	case x.p.allows():
		return "so that this value allows nothing"
	case x.p.denies():
		return "so that this value denies nothing"
	}
	return "so that this value has no effect"
}

// middle reports a star that is not at an end. Only namespaces have wildcards within.
func (l *linter) middle(x at) bool {
	v := x.v
	inner := strings.TrimSuffix(strings.TrimPrefix(v, "*"), "*")
	both := len(v) > 1 && strings.HasPrefix(v, "*") && strings.HasSuffix(v, "*")
	if strings.Contains(v, "{*}") || strings.Contains(v, "{**}") || !strings.Contains(inner, "*") && !both {
		return false
	}
	text := fmt.Sprintf("%q: a star is a wildcard only as the first or as the last character; this one is compared as a star, %s", v, x.consequence())
	if both {
		text = fmt.Sprintf("%q: only one star is a wildcard; the one at the end is compared as a star, %s", v, x.consequence())
	}
	x.report(l, "middle-wildcard", text, "list the values that are meant, or keep one star at one end"+templateHint(v))
	return true
}

func templateHint(v string) string {
	if !strings.HasPrefix(v, "/") {
		return ""
	}
	t := strings.ReplaceAll(v, "*", "{*}")
	if strings.HasSuffix(t, "/{*}") {
		t = strings.TrimSuffix(t, "{*}") + "{**}"
	}
	return "; for whole segments of a path write " + t
}

// name is what Kubernetes allows, with wildcards.
var name = regexp.MustCompile(`^[a-z0-9*]([-a-z0-9.*]*[a-z0-9*])?$`)

func (l *linter) principal(x at) {
	v := x.v
	never := fmt.Sprintf("%q is no principal that a client can have, %s", v, x.consequence())
	form := "write <trust domain>/ns/<namespace>/sa/<service account>, such as cluster.local/ns/" + x.p.Namespace + "/sa/web"
	parts := strings.Split(v, "/")
	_, address := prefix(v)
	switch {
	case address:
		x.report(l, "principal-form", fmt.Sprintf("%q is an address, and no client has such a principal, %s", v, x.consequence()), "put it under ipBlocks")
		return
	case strings.HasPrefix(v, "spiffe://"):
		x.report(l, "principal-form", fmt.Sprintf("%q: Istio puts spiffe:// before the value itself, %s", v, x.consequence()),
			"write "+strings.TrimPrefix(v, "spiffe://"))
		return
	case v == "*":
		return
	case strings.HasPrefix(v, "system:serviceaccount:"):
		f := strings.Split(v, ":")
		if len(f) == 4 {
			form = "write cluster.local/ns/" + f[2] + "/sa/" + f[3]
		}
		x.report(l, "principal-form", never, form)
		return
	case l.middle(x):
		return
	}
	if strings.HasPrefix(v, "*") {
		if !strings.HasPrefix(v, "*/") {
			x.report(l, "wide-principal", fmt.Sprintf("%q also matches accounts whose name merely ends like this, such as %s", v, "x"+v[1:]),
				"write the whole principal, or at least a whole part of it: */sa/<service account>")
		} else if strings.HasPrefix(v, "*/sa/") {
			x.report(l, "wide-principal", fmt.Sprintf("%q matches the account of this name in every namespace: whoever may create a namespace may create one", v),
				"write the namespace: cluster.local/ns/<namespace>"+v[1:])
		}
		return
	}
	if strings.HasSuffix(v, "*") {
		switch {
		case strings.HasPrefix(v, "ns/"), strings.HasPrefix(v, "/"):
			x.report(l, "principal-form", never, "write the trust domain before it: cluster.local/"+strings.TrimPrefix(v, "/"))
		case len(parts) == 3 && parts[1] == "ns" && parts[2] != "*":
			x.report(l, "wide-principal", fmt.Sprintf("%q also matches namespaces whose name merely begins like this", v), "end the namespace with a slash: "+strings.TrimSuffix(v, "*")+"/*")
		default:
			l.trustDomain(x, parts[0])
		}
		return
	}
	switch {
	case len(parts) == 5 && parts[1] == "ns" && parts[3] == "sa" && parts[0] != "" && name.MatchString(parts[2]) && name.MatchString(parts[4]):
		l.trustDomain(x, parts[0])
	case len(parts) == 4 && parts[0] == "ns" && parts[2] == "sa":
		x.report(l, "principal-form", never, "write the trust domain before it: cluster.local/"+v)
	case len(parts) == 5 && parts[0] == "" && parts[1] == "ns":
		x.report(l, "principal-form", never, "write the trust domain before it: cluster.local"+v)
	case len(parts) == 2 && name.MatchString(parts[0]) && name.MatchString(parts[1]):
		x.report(l, "principal-form", never, fmt.Sprintf("put it under serviceAccounts, or write cluster.local/ns/%s/sa/%s", parts[0], parts[1]))
	case len(parts) == 1 && name.MatchString(v):
		x.report(l, "principal-form", never, fmt.Sprintf("put it under serviceAccounts (or namespaces), or write cluster.local/ns/%s/sa/%s", x.p.Namespace, v))
	default:
		x.report(l, "principal-form", never, form)
	}
}

// trustDomain reports one that is neither the mesh's nor an alias. Without MeshConfig the mesh's is not known.
func (l *linter) trustDomain(x at, domain string) {
	v := x.v
	known := l.set.TrustDomains()
	if l.set.MeshConfig == nil || slices.Contains(known, domain) || strings.Contains(domain, "*") {
		return
	}
	if domain == "cluster.local" {
		if strings.HasSuffix(v, "*") && strings.Count(v, "/") != 4 {
			x.report(l, "trust-domain", fmt.Sprintf("%q: cluster.local stands for the mesh's own trust domain (%s) only in a whole principal, not before a wildcard, %s", v, known[0], x.consequence()),
				"write "+known[0]+strings.TrimPrefix(v, domain))
		}
		return
	}
	x.report(l, "trust-domain", fmt.Sprintf("%q: the mesh's trust domains are %s, so that only a client of another mesh can match", v, strings.Join(known, ", ")),
		"write cluster.local, which stands for the mesh's own, or add the trust domain to MeshConfig.trustDomainAliases if it was once the mesh's")
}

func (l *linter) namespace(x at) {
	v := x.v
	parts := strings.Split(v, "/")
	switch {
	case !name.MatchString(v):
		fix := "write the namespace's name alone"
		if len(parts) == 5 && parts[1] == "ns" {
			fix = fmt.Sprintf("put it under principals, or write %s", parts[2])
		} else if len(parts) == 2 && parts[0] == "ns" {
			fix = "write " + parts[1]
		}
		x.report(l, "name-form", fmt.Sprintf("%q is not the name of a namespace, %s", v, x.consequence()), fix)
	case v != "*" && strings.Contains(v, "*"):
		x.report(l, "wide-namespace", fmt.Sprintf("%q matches every namespace with such a name, also those that are created later", v),
			"list the namespaces, unless only administrators may create such ones")
	}
}

func (l *linter) serviceAccount(x at) {
	v := x.v
	parts := strings.Split(v, "/")
	if len(parts) <= 2 && !strings.Contains(v, "*") && name.MatchString(parts[0]) && name.MatchString(parts[len(parts)-1]) {
		return
	}
	fix := "write <service account> for one of namespace " + x.p.Namespace + ", or <namespace>/<service account>"
	if len(parts) == 5 && parts[1] == "ns" && parts[3] == "sa" {
		fix = fmt.Sprintf("put it under principals, or write %s/%s", parts[2], parts[4])
	} else if strings.Contains(v, "*") {
		fix = "wildcards are not allowed here; use namespaces, or principals such as cluster.local/ns/<namespace>/*"
	}
	x.report(l, "name-form", fmt.Sprintf("%q is not a service account", v), fix)
}

func (l *linter) requestPrincipal(x at) {
	v := x.v
	if v == "*" || l.middle(x) || strings.Contains(v, "/") {
		return
	}
	if strings.HasPrefix(v, "*") || strings.HasSuffix(v, "*") {
		return // any issuer or any subject
	}
	x.report(l, "request-principal-form", fmt.Sprintf("%q has no slash: it matches only tokens of the issuer %q with an empty subject, %s", v, v, x.consequence()),
		fmt.Sprintf("write <issuer>/<subject>, such as %s/* for every subject of the issuer", v))
}

// methods of RFC 9110, RFC 5789 and WebDAV, which nearly all traffic keeps to.
const methods = " GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT SEARCH QUERY PURGE "

func (l *linter) method(x at) {
	v := x.v
	upper := strings.ToUpper(v)
	switch {
	case l.middle(x), strings.Contains(v, "*"):
	case strings.ContainsAny(v, " ,|/"):
		x.report(l, "method-form", fmt.Sprintf("%q is compared as one method, %s", v, x.consequence()), "write each method as a value of its own")
	case v != upper:
		x.report(l, "method-form", fmt.Sprintf("%q: methods are compared with their case, and clients send %s, %s", v, upper, x.consequence()), "write "+upper)
	case !strings.Contains(methods, " "+v+" "):
		l.reportAs(Warning, x.p, "method-form", x.field, fmt.Sprintf("%q is not a method that HTTP registers", v), "check its spelling")
	}
}

func (l *linter) port(x at) {
	v := x.v
	n, err := strconv.ParseUint(v, 10, 16)
	switch {
	case err != nil && strings.ContainsAny(v, "-,:"):
		x.report(l, "port-form", fmt.Sprintf("%q: ports are single numbers", v), "list each port")
	case err != nil:
		x.report(l, "port-form", fmt.Sprintf("%q is not a port number; the names of a Service's ports are not known here", v), "write the number that clients dial, in quotes")
	case n == 0:
		x.report(l, "port-form", "port 0 is never dialled, "+x.consequence(), "write the number that clients dial")
	}
}

// ranges looks at a list of addresses.
func (l *linter) ranges(p *policy, d alternative.Dimension, values []string, field string) {
	if d.Kind != alternative.SourceIP && d.Kind != alternative.RemoteIP && d.Kind != alternative.DestinationIP {
		return
	}
	all4, all6 := -1, -1
	for i, v := range values {
		prefix, err := netip.ParsePrefix(v)
		if err != nil {
			continue
		}
		if prefix.Masked() != prefix {
			l.report(p, "range-form", fmt.Sprintf("%s[%d]", field, i), fmt.Sprintf("%q has bits set behind the first %d, which are not compared: it means %s", v, prefix.Bits(), prefix.Masked()),
				fmt.Sprintf("write %s, or %s for the one address", prefix.Masked(), prefix.Addr()))
		}
		if prefix.Bits() == 0 {
			if prefix.Addr().Is4() {
				all4 = i
			} else {
				all6 = i
			}
		}
	}
	if (all4 >= 0) != (all6 >= 0) {
		other := map[bool]string{true: "::/0", false: "0.0.0.0/0"}[all4 >= 0]
		l.report(p, "all-addresses", fmt.Sprintf("%s[%d]", field, max(all4, all6)), "this is every address of one family only", "add "+other+" if every address is meant")
	}
}
