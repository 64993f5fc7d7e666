package witness

import (
	"slices"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
)

// identity is a SPIFFE identity of Istio's form.
type identity struct{ trustDomain, namespace, account string }

func (i identity) String() string {
	return i.trustDomain + "/ns/" + i.namespace + "/sa/" + i.account
}

// maxParts bounds the trust domains, namespaces and accounts that are combined freely: more of them make alternatives of
// their own, each with its constants.
const maxParts = 6

// sources are identities: the principals named, their edges, and every combination of the trust domains, namespaces and
// accounts named.
func sources(tests []alternative.Test, trustDomain string) []value {
	var domains, namespaces, accounts, exact []string
	add := func(list *[]string, s string) {
		if s != "" && !strings.Contains(s, "/") && len(*list) < maxParts && !slices.Contains(*list, s) {
			*list = append(*list, s)
		}
	}
	for _, c := range labelled(tests) {
		switch c.name {
		case "principals", "source.principal":
			for _, p := range principals(c.value, trustDomain) {
				exact = append(exact, p)
				if id, ok := parse(p); ok {
					add(&domains, id.trustDomain)
					add(&namespaces, id.namespace)
					add(&accounts, id.account)
				}
			}
		case "namespaces", "source.namespace":
			for _, n := range instances(c.value) {
				add(&namespaces, n)
			}
		case "serviceAccounts", "source.serviceAccount":
			ns, sa, ok := strings.Cut(c.value, "/")
			if !ok {
				ns, sa = "", ns
			}
			add(&namespaces, ns)
			add(&accounts, sa)
		case "trustDomains", "source.trustDomain":
			for _, d := range instances(strings.ReplaceAll(c.value, "*", "x")) {
				add(&domains, d)
			}
		}
	}
	add(&domains, trustDomain)
	namespaces = append(namespaces, elsewhere)
	accounts = append(accounts, somebody)
	out := texts(exact...)
	for _, d := range domains {
		for _, n := range namespaces {
			for _, a := range accounts {
				out = append(out, texts(identity{d, n, a}.String())...)
			}
		}
	}
	for _, p := range exact {
		if id, ok := parse(p); ok {
			id.trustDomain = other + ".example"
			out = append(out, texts(id.String())...)
		}
		out = append(out, texts(around(p)...)...)
	}
	for _, n := range namespaces {
		out = append(out, texts(identity{trustDomain, n + "x", somebody}.String(), identity{trustDomain, "x" + n, somebody}.String())...)
	}
	out = append(out, texts(identity{other + ".example", elsewhere, somebody}.String())...)
	return append(out, value{absent: true}) // no identity
}

// labelled are constants with the name of the test that they are of, the positive ones first.
func labelled(tests []alternative.Test) []struct{ name, value string } {
	var out []struct{ name, value string }
	for _, t := range tests {
		for _, v := range t.Values {
			out = append(out, struct{ name, value string }{t.Name, v})
		}
	}
	for _, t := range tests {
		for _, v := range t.Not {
			out = append(out, struct{ name, value string }{t.Name, v})
		}
	}
	return out
}

// principals are whole identities that a principal of the API matches.
func principals(c, trustDomain string) []string {
	switch {
	case c == "*":
		return []string{identity{trustDomain, elsewhere, somebody}.String()}
	case strings.HasPrefix(c, "*"):
		rest := strings.TrimPrefix(c[1:], "/")
		for _, head := range []string{"", trustDomain + "/", trustDomain + "/ns/" + elsewhere + "/", trustDomain + "/ns/" + elsewhere + "/sa/"} {
			if _, ok := parse(head + rest); ok {
				return []string{head + rest}
			}
		}
		return []string{trustDomain + c[1:]}
	case strings.HasSuffix(c, "*"):
		head := c[:len(c)-1]
		for _, tail := range []string{"", "x", "/sa/" + somebody, "sa/" + somebody, somebody, "/ns/" + elsewhere + "/sa/" + somebody, "ns/" + elsewhere + "/sa/" + somebody, elsewhere + "/sa/" + somebody} {
			if _, ok := parse(head + tail); ok {
				return []string{head + tail}
			}
		}
		return []string{head + "x"}
	}
	return []string{c}
}

func parse(s string) (identity, bool) {
	parts := strings.Split(s, "/")
	if len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" || slices.Contains(parts, "") {
		return identity{}, false
	}
	return identity{parts[0], parts[2], parts[4]}, true
}

// tokens are issuers and subjects: those named, each with another of the other, and no token.
func tokens(tests []alternative.Test, known []string) []value {
	issuers, subjects := slices.Clone(known), []string(nil)
	var out []value
	add := func(list *[]string, more ...string) {
		for _, s := range more {
			if len(*list) < maxParts && !slices.Contains(*list, s) {
				*list = append(*list, s)
			}
		}
	}
	token := func(issuer, subject string) { out = append(out, value{token: token{issuer, subject}}) }
	for _, c := range labelled(tests) {
		switch {
		case strings.HasPrefix(c.name, "request.auth.claims[iss"):
			add(&issuers, instances(c.value)...)
		case strings.HasPrefix(c.name, "request.auth.claims[sub"):
			add(&subjects, instances(c.value)...)
		default:
			i := strings.LastIndexByte(c.value, '/')
			issuer, subject := c.value, "*"
			if i >= 0 {
				issuer, subject = c.value[:i], c.value[i+1:]
			} else if c.value != "*" && strings.HasPrefix(c.value, "*") {
				issuer, subject = "*", c.value
			}
			for _, iss := range instances(issuer) {
				for _, sub := range instances(subject) {
					token(iss, sub)
				}
				add(&issuers, iss)
			}
			add(&subjects, instances(subject)...)
		}
	}
	add(&issuers, "https://"+other+".example")
	add(&subjects, somebody)
	for _, iss := range issuers {
		for _, sub := range subjects {
			token(iss, sub)
		}
	}
	return append(out, value{absent: true})
}
