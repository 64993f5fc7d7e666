package mesh

import (
	"encoding/json"
	"fmt"
)

// Policy is what the service's AuthorizationPolicies (action ALLOW) say. Requests of the client ("default/client") with method
// GET pass, those with another method do not.
type Policy struct {
	// Count of policies; 0: 1. Only the last one matches; those before it name other paths and, with Principal, other clients.
	Count int
	// Principal makes the rules name the client's identity besides the method.
	Principal bool
}

// ClientSPIFFE is whom [Policy] lets in.
const ClientSPIFFE = "spiffe://cluster.local/ns/default/sa/client"

type object = map[string]any

// rules is the RBAC that istiod makes of the policies: one entry for each rule, in each dimension an "and" of "or"s.
func (p Policy) rules() ([]byte, error) {
	policies := object{}
	n := max(p.Count, 1)
	for i := range n {
		last := i == n-1
		name := "allow-get"
		allOf := []any{anyOf(object{"header": object{"name": ":method", "string_match": object{"exact": "GET"}}})}
		client := ClientSPIFFE
		if !last {
			name = fmt.Sprintf("allow-%05d", i)
			allOf = append(allOf, anyOf(object{"url_path": object{"path": object{"exact": fmt.Sprintf("/elsewhere/%d", i)}}}))
			client = fmt.Sprintf("spiffe://cluster.local/ns/default/sa/client-%d", i)
		}
		from := object{"any": true}
		if p.Principal {
			from = object{"or_ids": object{"ids": []any{object{"filter_state": object{
				"key": "io.istio.peer_principal", "string_match": object{"exact": client}}}}}}
		}
		policies["ns[default]-policy["+name+"]-rule[0]"] = object{
			"permissions": []any{object{"and_rules": object{"rules": allOf}}},
			"principals":  []any{object{"and_ids": object{"ids": []any{from}}}},
		}
	}
	return json.Marshal(object{"policies": policies})
}

func anyOf(rule object) object {
	return object{"or_rules": object{"rules": []any{rule}}}
}
