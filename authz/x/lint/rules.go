package lint

// Rules lists what is looked for. The names are stable.
func Rules() []Rule {
	return []Rule{
		{"invalid", Error, "istiod would refuse the policy"},
		{"dry-run-value", Error, "the annotation istio.io/dry-run is neither true nor false"},
		{"disable-value", Error, "the annotation lint.gowaypoint.io/disable names no rule"},

		{"deny-without-rules", Error, "a DENY, AUDIT or CUSTOM policy has no rules, so it never does anything"},
		{"matches-nothing", Error, "a rule contradicts itself, so no request matches it"},
		{"rules-or-trap", Warning, "a dash too many made two rules of one, and rules are alternatives"},
		{"only-exceptions", Warning, "an ALLOW rule says only what is not allowed, so it allows everything else"},
		{"name-says-deny", Warning, "a policy is named after denying and has no action, so it allows"},
		{"allow-policies-add-up", Info, "one ALLOW policy restricts who and another what, and either is enough"},
		{"duplicate-value", Info, "a value that another of the same list covers"},
		{"audit-alone", Info, "AUDIT does nothing but mark requests, and something has to read the mark"},

		{"shadowed-rule", Warning, "whatever matches a rule matches another rule of the same action as well"},
		{"deny-covers-allow", Warning, "whatever an ALLOW rule allows is denied"},
		{"perhaps-shadowed", Info, "no request was found for which a rule makes a difference"},

		{"principal-form", Error, "a principal is not of the form trust-domain/ns/namespace/sa/account"},
		{"name-form", Error, "a namespace or service account that is not a name"},
		{"trust-domain", Warning, "a principal of a trust domain that is not the mesh's"},
		{"wide-principal", Warning, "a wildcard in a principal matches identities that others can choose"},
		{"wide-namespace", Info, "a wildcard in a namespace matches namespaces that others may create"},

		{"method-form", Error, "a method that no client sends"},
		{"path-form", Error, "a path that no request has: no slash at its start, a query, a whole URL"},
		{"path-not-normal", Error, "a path that is changed by normalisation before the policy sees it"},
		{"path-regex", Error, "a regular expression where only * at an end and {*} templates mean anything"},
		{"middle-wildcard", Error, "a star in the middle of a value, where it stands for itself"},
		{"path-bypass", Warning, "other spellings of a path pass by a DENY, or by an exception of an ALLOW"},
		{"path-prefix", Info, "a prefix without a slash at its end matches more than the path and what is below"},
		{"host-port", Warning, "a host without its forms with a port"},
		{"host-form", Error, "a host that no request names: a URL, a path"},
		{"wide-host", Warning, "a suffix of hosts without a dot matches other domains"},
		{"header-name", Error, "a condition on a pseudo-header, or a name that is not one of a header"},
		{"header-bypass", Info, "a DENY by the value of a header, which the client chooses"},

		{"port-form", Error, "a port that is not a number"},
		{"port-not-of-service", Warning, "a port that the Service does not have: waypoints see the Service's port"},
		{"http-on-tcp", Warning, "HTTP attributes in a policy for a port that is not HTTP"},
		{"range-form", Warning, "an IP range with bits set behind its length"},
		{"all-addresses", Info, "0.0.0.0/0 without ::/0, or the reverse"},
		{"ip-behind-waypoint", Warning, "the client's IP address, which Envoy does not see in a waypoint"},
		{"forwarded-address", Warning, "remoteIpBlocks believes a header that the client sends"},

		{"request-principal-form", Error, "a request principal is not issuer/subject"},
		{"jwt-without-authentication", Warning, "a condition on a token, and no RequestAuthentication that reads one"},
		{"jwt-optional", Warning, "a RequestAuthentication without a policy that demands a token: no token passes"},

		{"target-missing", Warning, "a targetRef leads to nothing that the input has"},
		{"target-kind", Error, "a targetRef's kind and group are not what Istio knows"},
		{"nobody-enforces", Warning, "nothing enforces the policy"},
		{"custom-provider", Error, "CUSTOM with a provider that MeshConfig does not have"},
		{"custom-field", Error, "CUSTOM with a field that istiod does not support there"},
	}
}
