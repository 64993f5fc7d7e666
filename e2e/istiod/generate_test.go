package istiod

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the generated part of the corpus and the expected refusals")

// A form is a way to write values of a field; its name becomes part of the policy's.
type form struct {
	name   string
	values []string
}

// one makes a form of one value each.
func one(pairs ...string) []form {
	var out []form
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, form{pairs[i], []string{pairs[i+1]}})
	}
	return out
}

// The forms of what istiod treats as a string with wildcards at its ends.
func text(word, other string) []form {
	mid := len(word) / 2
	return append(one(
		"exact", word,
		"prefix", word[:mid]+"*",
		"suffix", "*"+word[mid:],
		"any", "*",
		"star-inside", word[:mid]+"*"+word[mid:],
		"star-both-ends", "*"+word[1:mid]+"*",
		"two-stars", "**",
		"upper-case", strings.ToUpper(word),
		"regex-characters", word+".+(a|b)[c]$^?\\d",
		"suffix-regex-characters", "*"+word+".+(a|b)[c]$",
		"prefix-regex-characters", word+".+(a|b)[c]*",
	),
		form{"several", []string{word, other}},
		form{"several-kinds", []string{word[:mid] + "*", "*" + other[mid:], other, "*"}},
		form{"repeated", []string{word, word}},
	)
}

var addresses = append(one(
	"v4", "10.1.2.3",
	"v4-range", "10.0.0.0/8",
	"v4-range-host-bits", "10.1.2.3/8",
	"v4-single-range", "10.1.2.3/32",
	"v4-all", "0.0.0.0/0",
	"v6", "2001:db8::1",
	"v6-range", "2001:db8::/32",
	"v6-range-host-bits", "2001:db8::1/32",
	"v6-all", "::/0",
	"v6-loopback", "::1",
	"v6-long-spelling", "2001:0DB8:0:0:0:0:0:0001",
	"v4-in-v6", "::ffff:10.1.2.3",
),
	form{"several", []string{"10.0.0.0/8", "192.168.1.1", "2001:db8::/32"}},
	form{"repeated", []string{"10.0.0.0/8", "10.0.0.0/8"}},
)

var ports = append(one("one", "80", "highest", "65535", "zero", "0", "leading-zero", "0080"),
	form{"several", []string{"80", "8080", "9090"}},
	form{"repeated", []string{"80", "80"}},
)

var principals = append(one(
	"exact", "cluster.local/ns/default/sa/sleep",
	"prefix", "cluster.local/ns/default/*",
	"prefix-of-account", "cluster.local/ns/default/sa/sl*",
	"suffix", "*/sa/sleep",
	"suffix-of-account", "*eep",
	"any", "*",
	"any-trust-domain", "*/ns/default/sa/sleep",
	"star-inside", "cluster.local/ns/*/sa/sleep",
	"star-in-trust-domain", "*.local/ns/default/sa/sleep",
	"star-ends-trust-domain", "cluster*/ns/default/sa/sleep",
	"both-ends", "*/ns/default/*",
	"two-stars", "**",
	"old-trust-domain", "old-td/ns/default/sa/sleep",
	"old-trust-domain-prefix", "old-td/ns/default/sa/*",
	"old-trust-domain-short-prefix", "old-td/ns/default/*",
	"other-trust-domain", "elsewhere.example.com/ns/default/sa/sleep",
	"wild-alias", "some-td/ns/default/sa/sleep",
	"wild-alias-as-written", "*-td/ns/default/sa/sleep",
	"no-identity", "sleep",
	"four-parts", "cluster.local/ns/default/sleep",
	"six-parts", "cluster.local/ns/default/sa/sleep/extra",
	"with-scheme", "spiffe://cluster.local/ns/default/sa/sleep",
	"upper-case", "Cluster.Local/ns/Default/sa/Sleep",
	"regex-characters", "cluster.local/ns/a.b/sa/c+d(e|f)[g]$",
	"suffix-regex-characters", "*/sa/c.d+(e|f)[g]$\\d",
	"empty-parts", "cluster.local//ns//sleep",
),
	form{"several", []string{"cluster.local/ns/default/sa/sleep", "cluster.local/ns/default/sa/curl"}},
	form{"several-kinds", []string{"cluster.local/ns/default/sa/sleep", "cluster.local/ns/default/*", "*/sa/curl", "*"}},
	form{"repeated", []string{"cluster.local/ns/default/sa/sleep", "cluster.local/ns/default/sa/sleep"}},
	form{"aliases-twice", []string{"cluster.local/ns/default/sa/sleep", "old-td/ns/default/sa/sleep"}},
)

var requestPrincipals = append(one(
	"exact", "issuer.example.com/subject",
	"issuer-is-url", "https://accounts.example.com/subject",
	"issuer-is-url-with-path", "https://accounts.example.com/realm/subject",
	"any", "*",
	"any-subject", "issuer.example.com/*",
	"any-issuer", "*/subject",
	"any-any", "*/*",
	"issuer-suffix", "*.example.com/subject",
	"subject-prefix", "issuer.example.com/sub*",
	"prefix-without-slash", "issuer*",
	"suffix-without-slash", "*subject",
	"no-slash", "issuer",
	"empty-subject", "issuer.example.com/",
	"empty-issuer", "/subject",
	"slash-alone", "/",
	"star-inside", "issuer*.com/sub*ject",
	"both-ends", "*.example.com/sub*",
	"two-stars", "**",
	"upper-case", "Issuer.Example.COM/Subject",
	"regex-characters", "https://a.b/c+(d|e)[f]$",
),
	form{"several", []string{"issuer.example.com/a", "issuer.example.com/b"}},
	form{"several-kinds", []string{"issuer.example.com/*", "*/b", "*", "issuer.example.com/c"}},
	form{"repeated", []string{"issuer.example.com/a", "issuer.example.com/a"}},
)

var namespaces = append(one(
	"exact", "default",
	"prefix", "team-*",
	"suffix", "*-prod",
	"any", "*",
	"star-inside", "team-*-prod",
	"both-ends", "*team*",
	"two-stars", "**",
	"upper-case", "Default",
	"with-dots", "a.b",
	"regex-characters", "a|b+(c)[d]$",
	"with-slash", "default/sa/sleep",
),
	form{"several", []string{"default", "istio-system"}},
	form{"several-kinds", []string{"default", "team-*", "*-prod"}},
	form{"repeated", []string{"default", "default"}},
)

var serviceAccounts = append(one(
	"own-namespace", "sleep",
	"with-namespace", "other/sleep",
	"with-dots", "other.ns/sleep.v1",
	"regex-characters", "other/a+b(c|d)[e]$",
	"upper-case", "Other/Sleep",
),
	form{"several", []string{"sleep", "other/sleep", "other/curl"}},
	form{"repeated", []string{"sleep", "sleep"}},
)

var trustDomains = append(one(
	"exact", "cluster.local",
	"alias", "old-td",
	"wild-alias", "*-td",
	"other", "elsewhere.example.com",
	"prefix", "cluster*",
	"suffix", "*.local",
	"any", "*",
	"upper-case", "Cluster.Local",
	"regex-characters", "a.b+(c|d)[e]$",
	"suffix-regex-characters", "*.b+(c|d)[e]$",
),
	form{"several", []string{"cluster.local", "elsewhere.example.com"}},
	form{"several-kinds", []string{"cluster.local", "old-td", "east-*", "*-west"}},
	form{"repeated", []string{"cluster.local", "cluster.local"}},
)

var hosts = append(text("reviews.example.com", "ratings.example.com"), one(
	"with-port", "reviews.example.com:8080",
	"any-port", "reviews.example.com:*",
	"any-subdomain", "*.example.com",
	"v4", "10.1.2.3:80",
	"v6", "[2001:db8::1]:80",
)...)

var methods = append(text("DELETE", "CUSTOM"), one("lower-case", "get")...)

var paths = slices.Concat(text("/reviews/1", "/ratings/22"), one(
	"root", "/",
	"everything-below", "/reviews/*",
	"extension", "*.html",
	"no-slash", "reviews",
	"escaped", "/a%20b%2Fc",
	"query", "/reviews?id=1",
	"fragment", "/reviews#top",
	"empty-segment", "/reviews//1",
	"dots", "/reviews/../ratings",
	"unicode", "/bücher",
	"one-segment", "/reviews/{*}",
	"one-segment-inside", "/reviews/{*}/stars",
	"one-segment-first", "/{*}/stars",
	"two-segments", "/{*}/reviews/{*}",
	"segments", "/reviews/{**}",
	"segments-inside", "/reviews/{**}/stars",
	"segments-alone", "/{**}",
	"one-then-segments", "/{*}/reviews/{**}",
	"template-trailing-slash", "/reviews/{*}/",
	"template-no-slash", "{*}",
	"template-literal-characters", "/a-b._~%20!$&'()+,;:@=/{*}",
), []form{
	{"several-templates", []string{"/reviews/{*}", "/ratings/{**}"}},
	{"templates-and-others", []string{"/reviews/{*}", "/ratings/*", "*.html", "/exact"}},
})

// fields of from.source and to.operation, in files of their own.
var fields = []struct {
	file, about, side, field string
	forms                    []form
}{
	{"source-principals", "Who asks, by identity, written without spiffe://. A trust domain that the mesh knows stands for all of its aliases.", "from", "principals", principals},
	{"source-request-principals", "Who asks, by a token that was verified: issuer, slash, subject; the last slash divides.", "from", "requestPrincipals", requestPrincipals},
	{"source-namespaces", "From which namespace, by identity.", "from", "namespaces", namespaces},
	{"source-service-accounts", "Which service account, of the policy's own namespace if none is named. Since 1.25.", "from", "serviceAccounts", serviceAccounts},
	{"source-trust-domains", "From which trust domain. Not in 1.27.", "from", "trustDomains", trustDomains},
	{"source-ip-blocks", "From which address, as the connection says.", "from", "ipBlocks", addresses},
	{"source-remote-ip-blocks", "From which address, as X-Forwarded-For or the PROXY protocol says.", "from", "remoteIpBlocks", addresses},
	{"operation-hosts", "To which host, in any case.", "to", "hosts", hosts},
	{"operation-ports", "To which port.", "to", "ports", ports},
	{"operation-methods", "With which method.", "to", "methods", methods},
	{"operation-paths", "To which path, with wildcards at the ends or with templates.", "to", "paths", paths},
}

// conditions of when. Keys in one file share their forms.
var conditions = []struct {
	file, about string
	keys        []string
	forms       []form
}{
	{"when-headers", "Header fields. The value is compared in its own case.", []string{"request.headers[x-user]"}, text("alice-smith", "bobby-jones")},
	{"when-header-names", "Names of header fields in all spellings, pseudo-headers included.", []string{"request.headers[User-Agent]", "request.headers[:path]", "request.headers[:authority]", "request.headers[a.b_c~d]", "request.headers[Cookie]"}, one("exact", "one", "any", "*", "prefix", "o*")},
	{"when-addresses", "Addresses of the connection, of the client behind proxies, and of the destination.", []string{"source.ip", "remote.ip", "destination.ip"}, addresses},
	{"when-namespace", "The source's namespace.", []string{"source.namespace"}, namespaces},
	{"when-service-account", "The source's service account. Since 1.25.", []string{"source.serviceAccount"}, serviceAccounts},
	{"when-trust-domain", "The source's trust domain. Not in 1.27.", []string{"source.trustDomain"}, trustDomains},
	{"when-principal", "The source's identity.", []string{"source.principal"}, principals},
	{"when-request-principal", "The identity in a token.", []string{"request.auth.principal"}, requestPrincipals},
	{"when-token", "Audience and presenter of a token: a string or a list of them.", []string{"request.auth.audiences", "request.auth.presenter"}, text("bookinfo", "shopping")},
	{"when-claims", "Claims of a token: a string or a list of them, at any depth.", []string{"request.auth.claims[groups]"}, text("editors", "readers")},
	{"when-claim-names", "Names of claims.", []string{"request.auth.claims[a][b]", "request.auth.claims[a][b][c]", "request.auth.claims[a.b/c-d:e]", "request.auth.claims[https://example.com/claim]"}, append(one("exact", "one", "any", "*"), form{"several", []string{"one", "t*"}})},
	{"when-port", "The destination's port.", []string{"destination.port"}, ports},
	{"when-sni", "The server name that the client asked for in TLS.", []string{"connection.sni"}, text("www.example.com", "web.example.org")},
	{"when-metadata", "What Envoy's filters wrote as metadata: a string, or in brackets a member of a list.", []string{"experimental.envoy.filters.network.mysql_proxy[db.table]", "experimental.envoy.filters.http.lua[key]"}, append(one(
		"exact", "update", "prefix", "up*", "suffix", "*date", "any", "*", "star-inside", "up*date",
		"list", "[update]", "list-prefix", "[up*]", "list-suffix", "[*date]", "list-any", "[*]", "list-empty", "[]", "open-bracket", "[update", "list-of-list", "[[update]]",
	), form{"several", []string{"update", "select"}}, form{"several-lists", []string{"[update]", "[select]"}}, form{"several-kinds", []string{"update", "[select]", "in*", "*"}})},
}

const toReviews = `targetRefs: [{group: "", kind: Service, name: reviews}]`

// The actions and API versions take turns.
var actions = []string{"ALLOW", "DENY", "AUDIT"}

func (f form) yaml() string {
	var quoted []string
	for _, v := range f.values {
		quoted = append(quoted, fmt.Sprintf("%q", v)) // YAML's double-quoted strings read JSON's escapes and Go's of printable text
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// signs are the ways in which a field says yes and no.
var signs = []struct{ name, format string }{
	{"", "%[1]s: %[3]s"},
	{"-not", "%[2]s: %[3]s"},
	{"-both", "%[1]s: %[3]s, %[2]s: %[3]s"},
}

func generate() map[string]string {
	out := map[string]string{}
	n := 0
	add := func(b *strings.Builder, name, rule string) {
		api := []string{"v1", "v1beta1"}[n%2]
		fmt.Fprintf(b, "---\napiVersion: security.istio.io/%s\nkind: AuthorizationPolicy\nmetadata: {namespace: default, name: %s}\nspec:\n  %s\n  action: %s\n  rules: [%s]\n",
			api, name, toReviews, actions[n%len(actions)], rule)
		n++
	}
	begin := func(about string) *strings.Builder {
		b := &strings.Builder{}
		fmt.Fprintf(b, "# %s\n# Written by TestGenerated: change its tables, not this file.\n", about)
		return b
	}
	for _, f := range fields {
		b := begin(f.about)
		not := "not" + strings.ToUpper(f.field[:1]) + f.field[1:]
		inner := map[string]string{"from": "source", "to": "operation"}[f.side]
		for i, form := range f.forms {
			for s, sign := range signs {
				if s == 2 && i%4 != 0 { // both at once does not depend on the form
					continue
				}
				add(b, f.file+"-"+form.name+sign.name, fmt.Sprintf("{%s: [{%s: {%s}}]}", f.side, inner, fmt.Sprintf(sign.format, f.field, not, form.yaml())))
			}
		}
		out[f.file+".yaml"] = b.String()
	}
	for _, c := range conditions {
		b := begin(c.about)
		for k, key := range c.keys {
			for i, form := range c.forms {
				for s, sign := range signs {
					if s == 2 && i%4 != 0 {
						continue
					}
					name := c.file
					if len(c.keys) > 1 {
						name = fmt.Sprintf("%s-%d", c.file, k)
					}
					add(b, name+"-"+form.name+sign.name, fmt.Sprintf("{when: [{key: %q, %s}]}", key, fmt.Sprintf(sign.format, "values", "notValues", form.yaml())))
				}
			}
		}
		out[c.file+".yaml"] = b.String()
	}
	return out
}

// What is generated is committed: people read it, and other tests take it as it is.
func TestGenerated(t *testing.T) {
	for name, want := range generate() {
		file := filepath.Join("testdata", "corpus", name)
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not what the tables make: run with -update", file)
		}
	}
}
