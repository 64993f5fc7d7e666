package query

import (
	"strings"

	"github.com/gowaypoint/gowaypoint/authz"
)

// Attribute is the attribute of an authz.Reason in words that do not ask for a knowledge of Envoy: "client identity" for
// "filter state io.istio.peer_principal".
func Attribute(s string) string {
	switch s {
	case "filter state " + authz.PeerPrincipal:
		return "client identity"
	case "header :method":
		return "method"
	case "header :authority":
		return "host"
	case "direct remote address":
		return "client address"
	case "remote address":
		return "client address by trusted headers"
	}
	if claim, ok := strings.CutPrefix(s, "metadata envoy.filters.http.jwt_authn payload."); ok {
		return "token's claim " + claim
	}
	return s
}
