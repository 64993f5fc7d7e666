package authz

import "strings"

// Action is what a set of policies does with a request that matches one of them.
type Action uint8

// The actions of Envoy's RBAC filter.
const (
	Allow Action = iota // a request that matches no policy is denied
	Deny                // a request that matches no policy is allowed
	Log                 // nothing is denied; a match asks for the request to be logged
)

func (a Action) String() string {
	return [...]string{Allow: "ALLOW", Deny: "DENY", Log: "LOG"}[a]
}

// MarshalText writes the action as String does, in JSON too.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Decision is a verdict with its evidence. The zero Decision denies.
type Decision struct {
	Allowed bool   `json:"allowed"`
	Action  Action `json:"action"`
	// Policy is the name of the policy that matched, "" when none did: then an Allow set has denied, and a Deny or
	// Log set has let pass.
	Policy string `json:"policy,omitempty"`
	// Source is the object that the policy's name points to, zero when none matched or the name is not istiod's.
	Source Source `json:"source,omitzero"`
	// Details is the response code details (HTTP) or connection termination details (TCP) of a denial, such as
	// rbac_access_denied_matched_policy[none]. "" when allowed.
	Details string `json:"details,omitempty"`
}

// details renders a denial as Envoy does: white space in the policy's name becomes "_", so that a log line keeps its
// columns, and a denial for want of a match names "none".
func details(policy string) string {
	if policy == "" {
		policy = "none"
	}
	name := strings.Map(func(c rune) rune {
		if strings.ContainsRune(" \t\n\v\f\r", c) {
			return '_'
		}
		return c
	}, policy)
	return "rbac_access_denied_matched_policy[" + name + "]"
}
