package authzcmd

import (
	"fmt"

	"github.com/gowaypoint/gowaypoint/authz"
	"github.com/gowaypoint/gowaypoint/authz/x/manifest"
)

// result is what check and explain say, and its JSON form (-o json). The form is documented in docs/authz.md: fields are added,
// not renamed or removed.
type result struct {
	// Verdict is ALLOW or DENY.
	Verdict string `json:"verdict"`
	// Because is the verdict's reason as a sentence.
	Because string `json:"because"`
	// Status is the HTTP status of a refusal; 0 for a connection, which is closed.
	Status int `json:"status,omitempty"`
	// Details is what Envoy logs: the response code details, or the connection termination details.
	Details string `json:"details,omitempty"`
	// Policy that decided, if one matched.
	Policy *policyRef `json:"policy,omitempty"`
	// Nearest is the policy that came nearest to allowing a request which none allows.
	Nearest *policyResult `json:"nearest,omitempty"`
	// Custom is the policy that hands the request to an extension provider, which has the last word: ALLOW then means that the
	// other policies have nothing against it.
	Custom *policyRef `json:"custom,omitempty"`
	Audit  *policyRef `json:"audit,omitempty"`
	// DryRunDeny and DryRunAllow are what dry-run policies would have decided.
	DryRunDeny  *dryRun     `json:"dryRunDeny,omitempty"`
	DryRunAllow *dryRun     `json:"dryRunAllow,omitempty"`
	For         subjectInfo `json:"for"`
	Request     requestInfo `json:"request"`
	Warnings    []string    `json:"warnings,omitempty"`
	Notes       []string    `json:"notes,omitempty"`

	// What follows is said by explain only.
	Stages      []stageResult `json:"stages,omitempty"`
	NotEnforced []skipped     `json:"notEnforcedHere,omitempty"` // policies, or parts of them ("rules[0]: …"), that do not count
	Enforcement []enforcement `json:"enforcement,omitempty"`
}

// policyRef is a rule of a policy with its place.
type policyRef struct {
	Action    string `json:"action"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`           // Envoy's name of the rule, if it is not one of istiod's
	Rule      string `json:"rule,omitempty"` // "rules[0]"
	Provider  string `json:"provider,omitempty"`
	File      string `json:"file,omitempty"`
	Line      int    `json:"line,omitempty"`
}

// String is such as: ALLOW policy shop/get, rules[0] (policies.yaml:12).
func (p *policyRef) String() string {
	return p.Action + " policy " + p.short()
}

func (p *policyRef) short() string {
	s := p.Name
	if p.Namespace != "" {
		s = p.Namespace + "/" + s
	}
	if p.Rule != "" {
		s += ", " + p.Rule
	}
	if p.File != "" {
		s += " (" + manifest.Place{File: p.File, Line: p.Line}.String() + ")"
	}
	return s
}

type dryRun struct {
	Verdict string     `json:"verdict"`
	Policy  *policyRef `json:"policy,omitempty"`
}

type subjectInfo struct {
	Target   string `json:"target,omitempty"` // Service/shop/cart
	Waypoint string `json:"waypoint,omitempty"`
	Chain    string `json:"chain,omitempty"` // of a config_dump
	Protocol string `json:"protocol"`        // HTTP or TCP
	Paths    string `json:"pathNormalization,omitempty"`
}

// requestInfo is the request as policies see it.
type requestInfo struct {
	Source   string         `json:"source,omitempty"`
	Method   string         `json:"method,omitempty"`
	Host     string         `json:"host,omitempty"`
	Path     string         `json:"path,omitempty"`
	RawPath  string         `json:"rawPath,omitempty"` // as it was sent, where that is something else
	Scheme   string         `json:"scheme,omitempty"`
	Headers  []string       `json:"headers,omitempty"`
	Port     uint16         `json:"port,omitempty"`
	SourceIP string         `json:"sourceIp,omitempty"`
	RemoteIP string         `json:"remoteIp,omitempty"`
	DestIP   string         `json:"destinationIp,omitempty"`
	SNI      string         `json:"sni,omitempty"`
	Claims   map[string]any `json:"claims,omitempty"`
}

// stageResult is one step: the policies of one action, in the order in which a waypoint asks.
type stageResult struct {
	Action   string         `json:"action"`
	Provider string         `json:"provider,omitempty"`
	DryRun   bool           `json:"dryRun,omitempty"`
	Outcome  string         `json:"outcome"`
	Reached  bool           `json:"reached"`
	Policies []policyResult `json:"policies"`
	Omitted  int            `json:"omitted,omitempty"` // rules that are not in Policies; --nearest
}

type policyResult struct {
	policyRef
	Matched bool     `json:"matched"`
	Nearest bool     `json:"nearest,omitempty"`
	Reasons []reason `json:"reasons,omitempty"`
}

// reason is one condition in the words of AuthorizationPolicy, or with AnyOf a choice of which one was enough.
type reason struct {
	Attribute string     `json:"attribute,omitempty"`
	Wanted    string     `json:"wanted,omitempty"`
	Got       string     `json:"got,omitempty"`
	Fields    []string   `json:"fields,omitempty"` // of the rule, such as to[0].operation.methods
	Line      int        `json:"line,omitempty"`
	AnyOf     [][]reason `json:"anyOf,omitempty"`
}

type skipped struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Why       string `json:"why"`
	File      string `json:"file,omitempty"`
	Line      int    `json:"line,omitempty"`
}

// actionName is what users call an action: Envoy's LOG is AUDIT.
func actionName(a authz.Action) string {
	if a == authz.Log {
		return "AUDIT"
	}
	return a.String()
}

// ref finds the policy that a rule's name stands for.
func (s *subject) ref(name string, source authz.Source, action string) *policyRef {
	if source.IsZero() {
		return &policyRef{Action: action, Name: name}
	}
	p := &policyRef{Action: action, Namespace: source.Namespace, Name: source.Name, Rule: fmt.Sprintf("rules[%d]", source.Rule), Provider: source.Provider}
	if object := s.set.Policy(source.Namespace, source.Name); object != nil {
		field := "spec." + p.Rule
		if len(object.Spec.GetRules()) == 0 {
			p.Rule, field = "", "spec"
		}
		place := object.At(field)
		p.File, p.Line = place.File, place.Line
	}
	return p
}

// reasons puts reasons into words, with the fields of the rule that they come from.
func (s *subject) reasons(source authz.Source, list []authz.Reason) []reason {
	var out []reason
	for _, r := range list {
		if r.Attribute == "any" && r.AnyOf == nil { // istiod makes of a policy without rules one that matches nothing
			return []reason{{Attribute: "the number of rules", Wanted: "at least 1", Got: "0"}}
		}
		if r.AnyOf != nil {
			var any [][]reason
			for _, alternative := range r.AnyOf {
				any = append(any, s.reasons(source, alternative))
			}
			out = append(out, reason{AnyOf: any})
			continue
		}
		one := reason{Attribute: attribute(r.Attribute), Wanted: wanted(r.Attribute, r.Wanted), Got: got(r.Attribute, r.Got)}
		if object := s.set.Policy(source.Namespace, source.Name); object != nil && source.Rule < len(object.Spec.GetRules()) {
			one.Fields = about(object.Spec.GetRules()[source.Rule], one.Attribute, one.Wanted)
			if len(one.Fields) > 0 {
				one.Line = object.At(fmt.Sprintf("spec.rules[%d].%s", source.Rule, one.Fields[0])).Line
			}
		}
		out = append(out, one)
	}
	return out
}
