package authzcmd

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/gowaypoint/gowaypoint/authz"
)

// This file puts what package authz says in Envoy's terms into those of AuthorizationPolicy: the names of its fields, and its
// own notation for patterns ("/admin*" for a prefix).

// attribute is the plain name of an attribute.
func attribute(name string) string {
	switch name {
	case "header :method":
		return "method"
	case "header :authority", "header host":
		return "host"
	case "header :scheme":
		return "scheme"
	case "filter state " + authz.PeerPrincipal:
		return "source principal"
	case "source address", "direct remote address":
		return "source IP"
	case "remote address":
		return "remote IP"
	case "destination address":
		return "destination IP"
	case "destination port":
		return "port"
	case "server name":
		return "SNI"
	}
	if claim, ok := strings.CutPrefix(name, "metadata envoy.filters.http.jwt_authn payload."); ok {
		switch claim {
		case "iss":
			return "token's issuer"
		case "sub":
			return "token's subject"
		case "aud":
			return "token's audience"
		case "azp":
			return "token's presenter"
		}
		return "token's claim " + claim
	}
	if filter, ok := strings.CutPrefix(name, "metadata "); ok {
		return "metadata of " + filter
	}
	return name
}

const quoted = `"(?:[^"\\]|\\.)*"`

var (
	form     = regexp.MustCompile(`(prefix |suffix |containing |regex |template )?(` + quoted + `|[^ "]\S*)( in any case)?`)
	listForm = regexp.MustCompile(`a list with (` + quoted + `|(?:prefix|suffix) ` + quoted + `|regex "\.\+")`)

	namespaceForm = regexp.MustCompile(`^(?:\.\*|spiffe://.*)/ns/(.*?)/(?:\.\*|sa/\.\*)$`)
	accountForm   = regexp.MustCompile(`^spiffe://\.\+/ns/([^/]*)/\(\.\+/\|\)sa/([^/]*?)\(/\.\+\)\?$`)
	domainForm    = regexp.MustCompile(`^spiffe://(.*)/\.\*$`)
	endForm       = regexp.MustCompile(`^spiffe://\.\*(.*)$`)
)

const spiffe = "spiffe://"

// wanted puts a pattern, or several with "or", "and" and "not", into the notation of AuthorizationPolicy.
func wanted(name, text string) string {
	text = listForm.ReplaceAllString(text, "$1") // a claim may be a string or a list of them: both are wanted in the same words
	text = form.ReplaceAllStringFunc(text, func(part string) string {
		m := form.FindStringSubmatch(part)
		kind, value := strings.TrimSpace(m[1]), m[2]
		if kind == "template" {
			return strconv.Quote(template(value))
		}
		plain, err := strconv.Unquote(value)
		if err != nil || !strings.HasPrefix(value, `"`) {
			return part
		}
		if name == "filter state "+authz.PeerPrincipal {
			return identity(kind, plain)
		}
		return pattern(kind, plain)
	})
	return once(once(text, " or "), " and ")
}

// once leaves out repetitions: what was wanted of a claim stands there twice, as a string and as an element of a list.
func once(text, joiner string) string {
	var out []string
	seen := map[string]bool{}
	for _, part := range strings.Split(text, joiner) {
		if plain := strings.TrimPrefix(part, "not "); !seen[plain] {
			seen[plain] = true
			out = append(out, part)
		}
	}
	return strings.Join(out, joiner)
}

func pattern(kind, value string) string {
	switch {
	case kind == "prefix":
		return strconv.Quote(value + "*")
	case kind == "suffix":
		return strconv.Quote("*" + value)
	case kind == "containing":
		return "something with " + strconv.Quote(value) + " in it"
	case kind == "regex" && value == ".+":
		return `"*"`
	case kind == "regex":
		return "the regular expression " + strconv.Quote(value)
	}
	return strconv.Quote(value)
}

// template writes a path template as policies do: {*} for a segment, {**} for the rest.
func template(text string) string {
	parts := strings.Split(text, "/")
	for i, p := range parts {
		if p == "*" || p == "**" {
			parts[i] = "{" + p + "}"
		}
	}
	return strings.Join(parts, "/")
}

// identity recognises what istiod makes of principals, namespaces, serviceAccounts and trustDomains.
func identity(kind, value string) string {
	unescape := func(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, ".*", "*"), `\`, "") }
	if kind != "regex" {
		rest, ok := strings.CutPrefix(value, spiffe)
		switch domain, end := strings.CutSuffix(rest, "/"); {
		case !ok:
			return pattern(kind, value)
		case kind == "prefix" && rest == "":
			return "any identity"
		case kind == "prefix" && end && !strings.Contains(domain, "/"):
			return "trust domain " + strconv.Quote(domain)
		}
		return pattern(kind, rest)
	}
	if m := accountForm.FindStringSubmatch(value); m != nil {
		return "service account " + strconv.Quote(unescape(m[1])+"/"+unescape(m[2]))
	}
	if m := namespaceForm.FindStringSubmatch(value); m != nil {
		return "namespace " + strconv.Quote(unescape(m[1]))
	}
	if m := domainForm.FindStringSubmatch(value); m != nil {
		return "trust domain " + strconv.Quote(strings.ReplaceAll(strings.ReplaceAll(m[1], "[^/]*", "*"), `\`, ""))
	}
	if m := endForm.FindStringSubmatch(value); m != nil {
		return strconv.Quote("*" + unescape(m[1]))
	}
	return pattern(kind, value)
}

// got is what there was. The scheme of an identity is left out, as in policies.
func got(name, text string) string {
	if value, uncertain := strings.CutSuffix(text, " (not one certain value)"); uncertain {
		switch {
		case value == "unknown":
			return notKnown
		case strings.Contains(value, " and "):
			return value + " (every value counts)"
		}
		return value + " (which can be read in two ways)"
	}
	switch {
	case name == "filter state "+authz.PeerPrincipal && text == "absent":
		return "none (a client without identity)"
	case name == "filter state "+authz.PeerPrincipal:
		return strings.Replace(text, `"`+spiffe, `"`, 1)
	case text == "absent", text == "unknown", text == `""` && (attribute(name) == "host" || attribute(name) == "SNI"):
		return "none"
	}
	return text
}

// notKnown is an attribute that was not given and that every request has. An ALLOW does not match it, a DENY does.
const notKnown = "not known"

// flagOf is the flag that gives an attribute, "" for those that are always there.
func flagOf(name string) string {
	switch plain := attribute(name); plain {
	case "source principal":
		return "--source"
	case "host":
		return "--host"
	case "port":
		return "--port"
	case "source IP":
		return "--source-ip"
	case "remote IP":
		return "--remote-ip"
	case "destination IP":
		return "--destination-ip"
	case "SNI":
		return "--sni"
	default:
		if strings.HasPrefix(plain, "token's ") {
			return "--jwt"
		}
	}
	return ""
}
