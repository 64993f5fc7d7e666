package authz

import (
	"fmt"
	"math"
	"testing"
)

// BenchmarkCrossover compares trying and looking up, for policies and for the parts of an Or: the reason for minPolicies, minParts
// and maxGroup. The last one matches.
func BenchmarkCrossover(b *testing.B) {
	get := &Header{Name: ":method", Pattern: Exact("GET")}
	for _, c := range []struct {
		name string
		leaf func(i int) Clause
	}{
		{"principals", func(i int) Clause {
			return &FilterStateIs{PeerPrincipal, Exact(fmt.Sprint("spiffe://cluster.local/ns/shop/sa/client", i))}
		}},
		{"prefixes", func(i int) Clause { return &Path{Prefix(fmt.Sprintf("/service%d/", i))} }},
		{"hosts", func(i int) Clause {
			return &Header{Name: ":authority", Pattern: Exact(fmt.Sprintf("shop%d.example.com", i)).IgnoreCase()}
		}},
	} {
		for _, n := range []int{2, 4, 6, 8, 12, 16} {
			var policies []Policy
			var or Or
			for i := range n {
				policies = append(policies, Policy{fmt.Sprintf("p%02d", i), []Clause{And{get, c.leaf(i)}}, []Clause{Always{}}})
				or = append(or, c.leaf(i))
			}
			last := fmt.Sprint(n - 1)
			r := &Request{
				HTTP: true, Method: "GET", Path: "/service" + last + "/x", Authority: "shop" + last + ".example.com",
				FilterState: mapState{PeerPrincipal: "spiffe://cluster.local/ns/shop/sa/client" + last},
			}
			for _, indexed := range []bool{false, true} {
				least := math.MaxInt
				if indexed {
					least = 0
				}
				for what, list := range map[string][]Policy{"policies": policies, "parts": {{"p", []Clause{or}, []Clause{Always{}}}}} {
					s := newSet(Allow, len(list))
					for i := range list {
						if err := s.add(Allow, certainly, &list[i]); err != nil {
							b.Fatal(err)
						}
					}
					if what == "parts" {
						s.buildIndex(math.MaxInt, least)
					} else {
						s.buildIndex(least, math.MaxInt)
					}
					b.Run(fmt.Sprintf("%s/%s/%d/indexed=%v", what, c.name, n, indexed), func(b *testing.B) {
						for b.Loop() {
							if !s.Decide(r).Allowed {
								b.Fatal("denied")
							}
						}
					})
				}
			}
		}
	}
}
