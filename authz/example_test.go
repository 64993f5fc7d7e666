package authz_test

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/gowaypoint/gowaypoint/authz"
)

func Example() {
	set, err := authz.Compile(authz.Allow, []authz.Policy{{
		Name: "ns[shop]-policy[read-only]-rule[0]",
		Permissions: []authz.Clause{authz.And{
			authz.Or{
				&authz.Header{Name: ":method", Pattern: authz.Exact("GET")},
				&authz.Header{Name: ":method", Pattern: authz.Exact("HEAD")},
			},
			&authz.Path{Pattern: authz.Prefix("/products/")},
		}},
		Principals: []authz.Clause{&authz.FilterStateIs{
			Key: authz.PeerPrincipal, Pattern: authz.Exact("spiffe://cluster.local/ns/shop/sa/web"),
		}},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	r := &authz.Request{
		HTTP: true, Method: "GET", Path: "/products/7?full=1",
		FilterState: state("spiffe://cluster.local/ns/shop/sa/web"),
	}
	d := set.Decide(r)
	fmt.Println(d.Allowed, d.Source.Namespace, d.Source.Name, d.Source.Rule)

	r.Method, r.Path = "DELETE", "/orders/7"
	fmt.Println(set.Decide(r).Details)
	fmt.Print(set.Explain(r))
	// Output:
	// true shop read-only 0
	// rbac_access_denied_matched_policy[none]
	// denied by ALLOW set: no policy matched
	//   ns[shop]-policy[read-only]-rule[0] did not match
	//     header :method: wanted "GET" or "HEAD", got "DELETE"
	//     path: wanted prefix "/products/", got "/orders/7"
}

// rule is a policy of one permission and one principal, under the name that istiod gives it.
func rule(name string, permission, principal authz.Clause) authz.Policy {
	return authz.Policy{
		Name:        "ns[shop]-policy[" + name + "]-rule[0]",
		Permissions: []authz.Clause{permission}, Principals: []authz.Clause{principal},
	}
}

func compile(action authz.Action, policies ...authz.Policy) *authz.PolicySet {
	set, err := authz.Compile(action, policies)
	if err != nil {
		panic(err)
	}
	return set
}

// The stages of a waypoint: CUSTOM asks an external authorizer about what its shadow rules match, AUDIT logs, DENY and ALLOW
// decide, and a dry run tells what it would have decided.
func ExampleChain() {
	anyone := authz.Always{}
	web := &authz.FilterStateIs{Key: authz.PeerPrincipal, Pattern: authz.Exact("spiffe://cluster.local/ns/shop/sa/web")}
	under := func(prefix string) authz.Clause { return &authz.Path{Pattern: authz.Prefix(prefix)} }
	chain := authz.Chain{
		{Shadow: compile(authz.Deny, rule("login", under("/account"), anyone)), Provider: "oauth2-proxy"},
		{Enforced: compile(authz.Log, rule("trail", under("/account"), anyone))},
		{Enforced: compile(authz.Deny, rule("no-admin", under("/admin"), anyone))},
		{
			Enforced: compile(authz.Allow, rule("from-web", anyone, web)),
			Shadow:   compile(authz.Allow, rule("products-only", under("/products"), web)), // tried with istio.io/dry-run
		},
	}
	r := &authz.Request{HTTP: true, Method: "GET", FilterState: state("spiffe://cluster.local/ns/shop/sa/web")}
	for _, r.Path = range []string{"/admin/users", "/account/7"} {
		v := chain.Decide(r)
		fmt.Println(r.Path, "allowed:", v.Allowed, "by", v.Policy)
		if v.Custom != nil {
			fmt.Println("  if the provider agrees:", v.Custom.Source.Name)
		}
		if v.Audit != nil {
			fmt.Println("  to be logged:", v.Audit.Source.Name)
		}
		if v.DryRunAllow != nil {
			fmt.Println("  with the dry run:", v.DryRunAllow.Allowed)
		}
	}
	// Output:
	// /admin/users allowed: false by ns[shop]-policy[no-admin]-rule[0]
	// /account/7 allowed: true by ns[shop]-policy[from-web]-rule[0]
	//   if the provider agrees: login
	//   to be logged: trail
	//   with the dry run: false
}

// Of a large set only the policy that decided, or those that came near, are worth reading.
func ExamplePolicySet_ExplainTop() {
	var policies []authz.Policy
	for i := range 10_000 {
		policies = append(policies, rule(fmt.Sprintf("team%04d", i),
			authz.And{
				&authz.Header{Name: ":method", Pattern: authz.Exact("GET")},
				&authz.Path{Pattern: authz.Prefix(fmt.Sprintf("/team%04d/", i))},
			},
			&authz.FilterStateIs{Key: authz.PeerPrincipal, Pattern: authz.Exact(fmt.Sprintf("spiffe://cluster.local/ns/team%04d/sa/web", i))},
		))
	}
	set := compile(authz.Allow, policies...)
	fmt.Print(set.ExplainTop(&authz.Request{
		HTTP: true, Method: "POST", Path: "/team0042/x", FilterState: state("spiffe://cluster.local/ns/team0042/sa/web"),
	}, 1))
	// Output:
	// denied by ALLOW set: no policy matched
	//   ns[shop]-policy[team0042]-rule[0] did not match (nearest)
	//     header :method: wanted "GET", got "POST"
	//   and 9999 others
}

// An explanation as JSON, for other programs.
func ExampleExplanation() {
	set := compile(authz.Deny, rule("no-admin", &authz.Path{Pattern: authz.Prefix("/admin")}, authz.Always{}))
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(set.Explain(&authz.Request{HTTP: true, Method: "GET", Path: "/admin?x"})); err != nil {
		fmt.Println(err)
	}
	// Output:
	// {
	//   "decision": {
	//     "allowed": false,
	//     "action": "DENY",
	//     "policy": "ns[shop]-policy[no-admin]-rule[0]",
	//     "source": {
	//       "namespace": "shop",
	//       "name": "no-admin",
	//       "rule": 0
	//     },
	//     "details": "rbac_access_denied_matched_policy[ns[shop]-policy[no-admin]-rule[0]]"
	//   },
	//   "policies": [
	//     {
	//       "policy": "ns[shop]-policy[no-admin]-rule[0]",
	//       "source": {
	//         "namespace": "shop",
	//         "name": "no-admin",
	//         "rule": 0
	//       },
	//       "action": "DENY",
	//       "matched": true,
	//       "reasons": [
	//         {
	//           "attribute": "path",
	//           "wanted": "prefix \"/admin\"",
	//           "got": "\"/admin\""
	//         }
	//       ]
	//     }
	//   ],
	//   "nearest": -1,
	//   "values": [
	//     {
	//       "attribute": "path",
	//       "value": "\"/admin\""
	//     }
	//   ]
	// }
}
