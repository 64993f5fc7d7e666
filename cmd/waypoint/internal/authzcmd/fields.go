package authzcmd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	securityv1beta1 "istio.io/api/security/v1beta1"
)

// ruleField is a list of values in a rule.
type ruleField struct {
	path      string // below the rule, such as to[0].operation.methods
	attribute string // in plain words; for a source all that is about the identity is the source principal
	values    []string
}

// fieldsOf lists what a rule asks about.
func fieldsOf(r *securityv1beta1.Rule) []ruleField {
	var out []ruleField
	add := func(path, attribute string, values []string) {
		if len(values) > 0 {
			out = append(out, ruleField{path, attribute, values})
		}
	}
	for i, from := range r.GetFrom() {
		at, s := fmt.Sprintf("from[%d].source.", i), from.GetSource()
		add(at+"principals", "source principal", s.GetPrincipals())
		add(at+"notPrincipals", "source principal", s.GetNotPrincipals())
		add(at+"namespaces", "source principal", s.GetNamespaces())
		add(at+"notNamespaces", "source principal", s.GetNotNamespaces())
		add(at+"serviceAccounts", "source principal", s.GetServiceAccounts())
		add(at+"notServiceAccounts", "source principal", s.GetNotServiceAccounts())
		add(at+"trustDomains", "source principal", s.GetTrustDomains())
		add(at+"notTrustDomains", "source principal", s.GetNotTrustDomains())
		add(at+"ipBlocks", "source IP", s.GetIpBlocks())
		add(at+"notIpBlocks", "source IP", s.GetNotIpBlocks())
		add(at+"remoteIpBlocks", "remote IP", s.GetRemoteIpBlocks())
		add(at+"notRemoteIpBlocks", "remote IP", s.GetNotRemoteIpBlocks())
		add(at+"requestPrincipals", "token's issuer", s.GetRequestPrincipals())
		add(at+"requestPrincipals", "token's subject", s.GetRequestPrincipals())
		add(at+"notRequestPrincipals", "token's issuer", s.GetNotRequestPrincipals())
		add(at+"notRequestPrincipals", "token's subject", s.GetNotRequestPrincipals())
	}
	for i, to := range r.GetTo() {
		at, o := fmt.Sprintf("to[%d].operation.", i), to.GetOperation()
		add(at+"methods", "method", o.GetMethods())
		add(at+"notMethods", "method", o.GetNotMethods())
		add(at+"paths", "path", o.GetPaths())
		add(at+"notPaths", "path", o.GetNotPaths())
		add(at+"hosts", "host", o.GetHosts())
		add(at+"notHosts", "host", o.GetNotHosts())
		add(at+"ports", "port", o.GetPorts())
		add(at+"notPorts", "port", o.GetNotPorts())
	}
	for i, when := range r.GetWhen() {
		for _, name := range conditionAttributes(when.GetKey()) {
			at := fmt.Sprintf("when[%d].", i)
			add(at+"values", name, when.GetValues())
			add(at+"notValues", name, when.GetNotValues())
		}
	}
	return out
}

// conditionAttributes are the plain names of what a condition asks about.
func conditionAttributes(key string) []string {
	switch key {
	case "source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain":
		return []string{"source principal"}
	case "source.ip":
		return []string{"source IP"}
	case "remote.ip":
		return []string{"remote IP"}
	case "destination.ip":
		return []string{"destination IP"}
	case "destination.port":
		return []string{"port"}
	case "connection.sni":
		return []string{"SNI"}
	case "request.auth.principal":
		return []string{"token's issuer", "token's subject"}
	case "request.auth.audiences":
		return []string{"token's audience"}
	case "request.auth.presenter":
		return []string{"token's presenter"}
	}
	inner := func(prefix string) (string, bool) {
		s, ok := strings.CutPrefix(key, prefix+"[")
		return strings.ReplaceAll(strings.TrimSuffix(s, "]"), "][", "."), ok
	}
	if name, ok := inner("request.headers"); ok {
		return []string{attribute("header " + name), attribute("header " + strings.ToLower(name))}
	}
	if name, ok := inner("request.auth.claims"); ok {
		return []string{attribute("metadata envoy.filters.http.jwt_authn payload." + name)}
	}
	if rest, ok := strings.CutPrefix(key, "experimental."); ok {
		filter, name, _ := strings.Cut(strings.TrimSuffix(rest, "]"), "[")
		return []string{attribute("metadata " + filter + " " + name)}
	}
	return nil
}

// about finds the fields of a rule that a reason comes from: those of the attribute of which a value stands in what was wanted,
// or else all of the attribute.
func about(r *securityv1beta1.Rule, attribute, wanted string) []string {
	var all, exact []string
	for _, f := range fieldsOf(r) {
		if f.attribute != attribute {
			continue
		}
		all = append(all, f.path)
		if slices.ContainsFunc(f.values, func(v string) bool {
			return strings.Contains(wanted, strconv.Quote(v)) || strings.Contains(wanted, v) && isAddress(attribute)
		}) {
			exact = append(exact, f.path)
		}
	}
	if len(exact) > 0 {
		return slices.Compact(exact)
	}
	return slices.Compact(all)
}

// isAddress is for attributes of which values stand in messages without quotes.
func isAddress(attribute string) bool {
	return strings.HasSuffix(attribute, "IP") || attribute == "port"
}
