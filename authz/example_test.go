package authz_test

import (
	"fmt"

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
