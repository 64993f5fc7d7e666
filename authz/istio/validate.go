package istio

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	securityv1beta1 "istio.io/api/security/v1beta1"
)

// validate finds what keeps a policy out of a cluster: istiod's admission webhook would refuse it. Where it applies has been
// checked before. Some refusals of the webhook are not repeated, because taking the policy does no harm:
//
//   - DENY and CUSTOM policies without rules, which do nothing;
//   - the annotation of dry runs with a value that is no boolean, which istiod does not follow: the policy is enforced;
//   - that annotation on AUDIT policies, and on those of action CUSTOM, which are then stricter (see Custom).
func validate(p *Policy, v Version) []error {
	c := checker{version: v, wrap: p.wrap}
	custom := p.Spec.GetAction() == securityv1beta1.AuthorizationPolicy_CUSTOM
	switch {
	case custom && len(p.Spec.GetRules()) > 0 && p.Spec.GetProvider().GetName() == "":
		c.add("provider.name", errors.New("empty; action CUSTOM needs the name of an extension provider"))
	case !custom && p.Spec.GetProvider() != nil:
		c.add("provider", fmt.Errorf("only action CUSTOM has one, and this is %s", p.Spec.GetAction()))
	}
	for i, r := range p.Spec.GetRules() {
		path := fmt.Sprintf("rules[%d]", i)
		if r == nil {
			c.add(path, errors.New("null"))
			continue
		}
		for j, from := range r.GetFrom() {
			c.source(fmt.Sprintf("%s.from[%d].source", path, j), from.GetSource(), custom)
		}
		for j, to := range r.GetTo() {
			c.operation(fmt.Sprintf("%s.to[%d].operation", path, j), to.GetOperation())
		}
		for j, when := range r.GetWhen() {
			c.condition(fmt.Sprintf("%s.when[%d]", path, j), when, custom)
		}
	}
	return c.errs
}

// checker collects what is wrong.
type checker struct {
	version Version
	wrap    func(error) error // names the object
	errs    []error
}

func (c *checker) add(path string, err error) {
	if err != nil {
		c.errs = append(c.errs, c.wrap(fmt.Errorf("%s: %w", path, err)))
	}
}

// values checks each value of a list. An empty one is never right.
func (c *checker) values(path string, values []string, check func(string) error) {
	for _, v := range values {
		if v == "" {
			c.add(path, errors.New("an empty value"))
		} else if check != nil {
			c.add(path, check(v))
		}
	}
}

// attachment checks what a policy of either kind says about where it applies.
func (c *checker) attachment(p attachable) {
	for k, v := range p.GetSelector().GetMatchLabels() {
		if k == "" || strings.Contains(k+v, "*") {
			c.add("selector.matchLabels", fmt.Errorf("%q: %q; a label has a name, and no wildcards", k, v))
		}
	}
	set := 0
	for _, is := range []bool{p.GetSelector() != nil, p.GetTargetRef() != nil, len(p.GetTargetRefs()) > 0} {
		if is {
			set++
		}
	}
	if set > 1 {
		c.add("targetRefs", errors.New("only one of selector, targetRef and targetRefs may be set"))
	}
	for i, ref := range targetRefs(p) {
		path := fmt.Sprintf("targetRefs[%d]", i)
		if len(p.GetTargetRefs()) == 0 {
			path = "targetRef"
		}
		if ref.GetName() == "" {
			c.add(path+".name", errors.New("empty"))
		}
		if ref.GetNamespace() != "" {
			c.add(path+".namespace", fmt.Errorf("%q; a policy can only target objects of its own namespace, so leave this out", ref.GetNamespace()))
		}
		switch {
		case !knownTarget(ref):
			c.add(path+".kind", fmt.Errorf("%q of group %q; known are Service (group \"\"), ServiceEntry (%s), Gateway and GatewayClass (%s)",
				ref.GetKind(), ref.GetGroup(), istioGroup, gatewayGroup))
		case ref.GetKind() == "GatewayClass" && !c.version.ownNamespaces():
			c.add(path+".kind", fmt.Errorf("istiod %s does not know policies for a GatewayClass; they came with 1.25", c.version))
		}
	}
}

var errCustom = errors.New("action CUSTOM has no rules by identity")

func (c *checker) source(path string, s *securityv1beta1.Source, custom bool) {
	// Where a list stands in the object, and what its values must be. Identities are those that CUSTOM does not have.
	lists := []struct {
		name     string
		values   []string
		check    func(string) error
		identity bool
	}{
		{"principals", s.GetPrincipals(), nil, true}, {"notPrincipals", s.GetNotPrincipals(), nil, true},
		{"requestPrincipals", s.GetRequestPrincipals(), nil, true}, {"notRequestPrincipals", s.GetNotRequestPrincipals(), nil, true},
		{"namespaces", s.GetNamespaces(), nil, true}, {"notNamespaces", s.GetNotNamespaces(), nil, true},
		{"serviceAccounts", s.GetServiceAccounts(), isServiceAccount, true}, {"notServiceAccounts", s.GetNotServiceAccounts(), isServiceAccount, true},
		{"trustDomains", s.GetTrustDomains(), isTrustDomain, true}, {"notTrustDomains", s.GetNotTrustDomains(), isTrustDomain, true},
		{"ipBlocks", s.GetIpBlocks(), isCIDR, false}, {"notIpBlocks", s.GetNotIpBlocks(), isCIDR, false},
		{"remoteIpBlocks", s.GetRemoteIpBlocks(), isCIDR, false}, {"notRemoteIpBlocks", s.GetNotRemoteIpBlocks(), isCIDR, false},
	}
	empty := true
	for _, l := range lists {
		if len(l.values) == 0 {
			continue
		}
		empty = false
		c.values(path+"."+l.name, l.values, l.check)
		if custom && l.identity {
			c.add(path+"."+l.name, errCustom)
		}
	}
	if empty {
		c.add(path, errors.New("empty; leave out `from` to match everybody"))
	}
	accounts := len(s.GetServiceAccounts()) + len(s.GetNotServiceAccounts())
	if accounts > 0 && len(s.GetPrincipals())+len(s.GetNotPrincipals())+len(s.GetNamespaces())+len(s.GetNotNamespaces()) > 0 {
		c.add(path, errors.New("serviceAccounts cannot stand beside principals or namespaces"))
	}
	for _, l := range [][]string{s.GetServiceAccounts(), s.GetNotServiceAccounts()} {
		c.add(path+".serviceAccounts", atMostAccounts(l))
	}
	if accounts > 0 && !c.version.serviceAccounts() {
		c.add(path+".serviceAccounts", fmt.Errorf("istiod %s does not know this field; it came with 1.25", c.version))
	}
	if len(s.GetTrustDomains())+len(s.GetNotTrustDomains()) > 0 && !c.version.trustDomains() {
		c.add(path+".trustDomains", fmt.Errorf("istiod %s does not know this field; it came with 1.30.2", c.version))
	}
}

func (c *checker) operation(path string, o *securityv1beta1.Operation) {
	lists := []struct {
		name   string
		values []string
		check  func(string) error
	}{
		{"hosts", o.GetHosts(), nil}, {"notHosts", o.GetNotHosts(), nil},
		{"ports", o.GetPorts(), isPort}, {"notPorts", o.GetNotPorts(), isPort},
		{"methods", o.GetMethods(), nil}, {"notMethods", o.GetNotMethods(), nil},
		{"paths", o.GetPaths(), c.isPath}, {"notPaths", o.GetNotPaths(), c.isPath},
	}
	empty := true
	for _, l := range lists {
		empty = empty && len(l.values) == 0
		c.values(path+"."+l.name, l.values, l.check)
	}
	if empty {
		c.add(path, errors.New("empty; leave out `to` to match everything"))
	}
}

func (c *checker) condition(path string, w *securityv1beta1.Condition, custom bool) {
	key := w.GetKey()
	check, err := c.attribute(key)
	if err != nil {
		c.add(path+".key", err)
		return
	}
	if len(w.GetValues())+len(w.GetNotValues()) == 0 {
		c.add(path, errors.New("neither values nor notValues"))
	}
	c.values(path+".values", w.GetValues(), check)
	c.values(path+".notValues", w.GetNotValues(), check)
	switch key {
	case "source.serviceAccount":
		c.add(path+".values", atMostAccounts(w.GetValues()))
		c.add(path+".notValues", atMostAccounts(w.GetNotValues()))
		fallthrough
	case "source.namespace", "source.trustDomain", "source.principal":
		if custom {
			c.add(path+".key", errCustom)
		}
	}
	if custom && strings.HasPrefix(key, "request.auth.") {
		c.add(path+".key", errCustom)
	}
}

// attribute returns the check for an attribute's values.
func (c *checker) attribute(key string) (func(string) error, error) {
	unknown := func(hint string) error { return fmt.Errorf("unknown attribute %q%s", key, hint) }
	switch key {
	case "":
		return nil, errors.New("empty")
	case "source.ip", "remote.ip", "destination.ip":
		return isCIDR, nil
	case "destination.port":
		return isPort, nil
	case "source.namespace", "source.principal", "request.auth.principal", "request.auth.audiences", "request.auth.presenter", "connection.sni":
		return nil, nil
	case "source.serviceAccount":
		if !c.version.serviceAccounts() {
			return nil, unknown(fmt.Sprintf(" to istiod %s; it came with 1.25", c.version))
		}
		return isServiceAccount, nil
	case "source.trustDomain":
		if !c.version.trustDomains() {
			return nil, unknown(fmt.Sprintf(" to istiod %s; it came with 1.30.2", c.version))
		}
		return isWildcard, nil
	case "destination.namespace":
		return nil, unknown("; a policy holds for its own namespace")
	case "destination.name", "destination.user":
		return nil, unknown("; name the service in targetRefs")
	}
	for _, p := range []string{"request.headers", "request.auth.claims", "experimental.envoy.filters."} {
		if strings.HasPrefix(key, p) {
			if open := strings.IndexByte(key, '['); !strings.HasSuffix(key, "]") || open < 1 || open >= len(key)-2 {
				return nil, fmt.Errorf("%q: want a name in brackets after the attribute", key)
			}
			return nil, nil
		}
	}
	if strings.HasPrefix(key, "destination.labels") {
		return nil, unknown("; name the service in targetRefs")
	}
	return nil, unknown("")
}

func isCIDR(v string) error {
	_, err := cidr(v)
	return err
}

func isPort(v string) error {
	_, err := destinationPort(v)
	return err
}

// atMostAccounts is a limit of the API on a list of service accounts.
func atMostAccounts(list []string) error {
	if len(list) > 16 {
		return fmt.Errorf("%d service accounts; at most 16 are allowed", len(list))
	}
	return nil
}

func isServiceAccount(v string) error {
	ns, sa, ok := strings.Cut(v, "/")
	switch {
	case strings.Contains(v, "*"):
		return fmt.Errorf("%q: a service account has no wildcards", v)
	case len(v) > 320:
		return fmt.Errorf("%q is longer than 320 characters", v)
	case ok && (ns == "" || sa == "" || strings.Contains(sa, "/")):
		return fmt.Errorf("%q is neither a service account nor namespace/serviceAccount", v)
	}
	return nil
}

// isWildcard allows one wildcard, at either end.
func isWildcard(v string) error {
	if n := strings.Count(v, "*"); n > 1 || n == 1 && !strings.HasPrefix(v, "*") && !strings.HasSuffix(v, "*") {
		return fmt.Errorf("%q: there may be one *, at the beginning or at the end", v)
	}
	return nil
}

func isTrustDomain(v string) error {
	if strings.Contains(v, "/") {
		return fmt.Errorf("%q is no trust domain: it has a slash", v)
	}
	return isWildcard(v)
}

// pathCharacters may stand in a segment of a path template (RFC 3986, pchar).
var pathCharacters = regexp.MustCompile(`^[a-zA-Z0-9-._~%!$&'()+,;:@=]+$`)

// isPath checks a path, which may be a template: braces only stand around * and **, as a whole segment.
func (c *checker) isPath(v string) error {
	strict := c.version.strictTemplates()
	path := v
	if strict {
		path = strings.Trim(v, "/")
	}
	last := false // {**} has been
	for _, segment := range strings.Split(path, "/") {
		switch {
		case segment == "{*}" || segment == "{**}":
			if strict && last {
				return fmt.Errorf("%q: {**} has to be the last operator", v)
			}
			last = last || segment == "{**}"
		case strings.ContainsAny(segment, "{}"):
			return fmt.Errorf("%q: braces only stand around * or **, as a whole segment", v)
		case !isTemplate(v):
		case strict && !pathCharacters.MatchString(segment):
			return fmt.Errorf("%q: in a path with {*} or {**} a segment must not be empty nor hold characters such as *, as %q does", v, segment)
		case strings.Contains(segment, "*"):
			return fmt.Errorf("%q: * in a path with {*} or {**}", v)
		}
	}
	return nil
}
