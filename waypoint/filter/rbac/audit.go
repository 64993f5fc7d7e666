package rbac

import (
	"encoding/json"
	"io"
	"time"

	"github.com/gowaypoint/gowaypoint/authz"
)

// auditLine is what the logger StdoutAuditLog writes: the members that gRPC's logger of that name has, and those that say what a
// request is without gRPC.
type auditLine struct {
	Timestamp time.Time `json:"timestamp"`
	// Filter is the name of the filter that decided; gRPC has the name of its policy file here.
	Filter      string `json:"policy_name"`
	MatchedRule string `json:"matched_rule"` // "" when no policy matched
	Authorized  bool   `json:"authorized"`
	Shadow      bool   `json:"shadow,omitempty"` // it would have been, by shadow rules
	Principal   string `json:"principal"`
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	Method      string `json:"method,omitempty"`
	Authority   string `json:"authority,omitempty"`
	Path        string `json:"rpc_method,omitempty"` // without its query, which may hold what a log is not to hold
}

// writeAudit writes one decision as a line.
func writeAudit(w io.Writer, name string, q *query, d *authz.Decision, shadow bool) {
	r := &q.request
	line := auditLine{
		Timestamp: time.Now().UTC(), Filter: name, MatchedRule: d.Policy, Authorized: d.Allowed, Shadow: shadow,
		Method: r.Method, Authority: r.Authority, Path: withoutQuery(r.Path),
	}
	line.Principal, _ = q.FilterState(authz.PeerPrincipal)
	if line.Principal == "" && r.Peer != nil && len(r.Peer.URISANs) > 0 {
		line.Principal = r.Peer.URISANs[0]
	}
	if r.SourceIP.IsValid() {
		line.Source = r.SourceIP.String()
	}
	if r.Destination.IsValid() {
		line.Destination = r.Destination.String()
	}
	b, err := json.Marshal(map[string]auditLine{"rbac_audit_log": line})
	if err != nil { // no member can fail
		return
	}
	_, _ = w.Write(append(b, '\n')) // whether a line could be written changes no decision
}

func withoutQuery(path string) string {
	for i := range len(path) {
		if path[i] == '?' || path[i] == '#' {
			return path[:i]
		}
	}
	return path
}
