package authz

import (
	"strconv"
	"strings"
)

// Source is the object that a policy was generated from. The zero Source is unknown.
type Source struct {
	Namespace string `json:"namespace"`          // of the AuthorizationPolicy
	Name      string `json:"name"`               // of the AuthorizationPolicy
	Rule      int    `json:"rule"`               // index into spec.rules
	Provider  string `json:"provider,omitempty"` // the extension provider of a CUSTOM policy, else ""
}

// IsZero reports whether the source is unknown.
func (s Source) IsZero() bool { return s == Source{} }

// ParseSource reads the name that istiod gives a policy, ns[<namespace>]-policy[<name>]-rule[<index>]. A CUSTOM policy
// has istio-ext-authz-<provider>- before it (istio-ext-authz- alone before Istio 1.30), and -deny-due-to-bad-CUSTOM-action
// after it when its provider is bad.
func ParseSource(name string) (Source, bool) {
	var s Source
	if custom, ok := strings.CutPrefix(name, "istio-ext-authz"); ok && strings.HasPrefix(custom, "-") {
		// Neither namespaces nor object names hold brackets, so the last "-ns[" is the separator.
		at := strings.LastIndex(custom, "-ns[")
		if at < 0 {
			return Source{}, false
		}
		s.Provider, name = strings.TrimPrefix(custom[:at], "-"), custom[at+1:]
	}
	name = strings.TrimSuffix(name, "-deny-due-to-bad-CUSTOM-action")
	rest, ok := strings.CutPrefix(name, "ns[")
	if !ok {
		return Source{}, false
	}
	if s.Namespace, rest, ok = strings.Cut(rest, "]-policy["); !ok {
		return Source{}, false
	}
	if s.Name, rest, ok = strings.Cut(rest, "]-rule["); !ok {
		return Source{}, false
	}
	digits, ok := strings.CutSuffix(rest, "]")
	if !ok {
		return Source{}, false
	}
	rule, err := strconv.Atoi(digits)
	if err != nil || rule < 0 || strconv.Itoa(rule) != digits {
		return Source{}, false
	}
	s.Rule = rule
	return s, true
}
