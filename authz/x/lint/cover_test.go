package lint

import (
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	securityv1beta1 "istio.io/api/security/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/istio"
	"github.com/gowaypoint/gowaypoint/authz/pathnorm"
	"github.com/gowaypoint/gowaypoint/authz/x/alternative"
	"github.com/gowaypoint/gowaypoint/authz/x/witness"
)

// What the prover says is true: of two rules made at random, none that is said to be covered matches a request that the other
// does not match, and none that is said to contradict itself matches any. Requests made from their constants are the judges.
func TestProofsHold(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	pr := newProver(istio.Target{TrustDomains: []string{"cluster.local", "old.example"}})
	covered, contradictory := 0, 0
	for range 500 {
		p := istio.Policy{Namespace: "shop", Name: "p", Spec: &securityv1beta1.AuthorizationPolicy{
			Rules: []*securityv1beta1.Rule{randomRule(r), randomRule(r)},
		}}
		if r.IntN(2) == 0 {
			p.Spec.Rules[0] = loosened(r, p.Spec.Rules[1])
		}
		if r.IntN(3) == 0 { // a DENY matches what is uncertain as well
			p.Spec.Action = securityv1beta1.AuthorizationPolicy_DENY
		}
		all := alternative.Of([]istio.Policy{p})
		if len(all) != 2 {
			t.Fatal(len(all))
		}
		a, b := &all[0], &all[1]
		covers := pr.alternative(a, b)
		why, _ := pr.contradiction(b)
		if !covers && why == "" {
			continue
		}
		found, err := witness.Of([]istio.Policy{p}, witness.Options{Target: pr.target, Paths: pathnorm.Base, Limit: 3000})
		if err != nil {
			continue // identities written in two ways that do not go together
		}
		ma, errA := a.Matcher(pr.target)
		mb, errB := b.Matcher(pr.target)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		for i := range found.Queries {
			q, err := found.Queries[i].Request(pathnorm.Base)
			if err != nil {
				t.Fatal(err)
			}
			if covers && mb.Match(q) && !ma.Match(q) {
				t.Fatalf("said to cover, and does not: %v\n%v\n%v", &found.Queries[i], a.Tests, b.Tests)
			}
			if why != "" && mb.Match(q) {
				t.Fatalf("%s, and this matches: %v\n%v", why, &found.Queries[i], b.Tests)
			}
		}
		if covers {
			covered++
		}
		if why != "" {
			contradictory++
		}
	}
	t.Logf("%d covered, %d contradictory", covered, contradictory)
	if covered < 50 || contradictory < 50 {
		t.Error("too few to tell")
	}
}

// vocabulary of small size, so that rules meet.
var vocabulary = map[string][]string{
	"principals":        {"*", "cluster.local/ns/a/sa/x", "cluster.local/ns/a/*", "cluster.local/ns/ab/sa/x", "*/sa/x", "old.example/ns/a/sa/x", "*/ns/a/sa/x"},
	"namespaces":        {"a", "ab", "a*", "*b", "*"},
	"serviceAccounts":   {"x", "a/x", "shop/x"},
	"trustDomains":      {"cluster.local", "*", "*.example"},
	"requestPrincipals": {"*", "iss/*", "iss/sub", "*/sub", "is*", "*ub"},
	"methods":           {"GET", "POST", "*", "P*", "*T"},
	"paths":             {"/a", "/a/b", "/a*", "/a/*", "*b", "*", "/{*}", "/a/{*}", "/{**}", "/a/{**}"},
	"hosts":             {"h", "H", "h:*", "*.h", "*", "x.h"},
	"ports":             {"80", "81"},
	"ipBlocks":          {"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "0.0.0.0/0", "2001:db8::/32", "::/0"},
}

var conditions = map[string][]string{
	"request.headers[x]":          {"v", "v*", "*", "w"},
	"request.auth.claims[groups]": {"g", "g*", "*", "h"},
	"request.auth.audiences":      {"g", "h"},
	"source.namespace":            {"a", "a*", "ab"},
	"source.principal":            {"cluster.local/ns/a/sa/x", "*"},
	"request.headers[:path]":      {"/a", "/a*", "*b"},
	"destination.port":            {"80", "81"},
	"connection.sni":              {"h", "*.h", "*"},
}

// loosened is a rule with some fields left out and some values replaced, most of which makes it match more.
func loosened(r *rand.Rand, rule *securityv1beta1.Rule) *securityv1beta1.Rule {
	out := proto.Clone(rule).(*securityv1beta1.Rule)
	change := func(m protoreflect.Message) {
		for i := range m.Descriptor().Fields().Len() { // in a fixed order, which Range does not have
			f := m.Descriptor().Fields().Get(i)
			if !m.Has(f) {
				continue
			}
			switch r.IntN(4) {
			case 0:
				m.Clear(f)
			case 1:
				if words, list := vocabulary[f.JSONName()], m.Mutable(f).List(); len(words) > 0 {
					list.Set(r.IntN(list.Len()), protoreflect.ValueOfString(words[r.IntN(len(words))]))
				}
			}
		}
	}
	for _, f := range out.GetFrom() {
		if change(f.GetSource().ProtoReflect()); len(alternative.SourceTests("", f.GetSource())) == 0 {
			out.From = nil
		}
	}
	for _, o := range out.GetTo() {
		if change(o.GetOperation().ProtoReflect()); len(alternative.OperationTests("", o.GetOperation())) == 0 {
			out.To = nil
		}
	}
	if r.IntN(2) == 0 {
		out.When = nil
	}
	return out
}

func randomRule(r *rand.Rand) *securityv1beta1.Rule {
	pick := func(from []string, chance int) []string {
		if r.IntN(chance) != 0 {
			return nil
		}
		out := []string{from[r.IntN(len(from))]}
		if r.IntN(2) == 0 {
			out = append(out, from[r.IntN(len(from))])
		}
		return out
	}
	rule := &securityv1beta1.Rule{}
	s := &securityv1beta1.Source{
		RequestPrincipals: pick(vocabulary["requestPrincipals"], 8), NotRequestPrincipals: pick(vocabulary["requestPrincipals"], 8),
		TrustDomains: pick(vocabulary["trustDomains"], 8), NotTrustDomains: pick(vocabulary["trustDomains"], 8),
		IpBlocks: pick(vocabulary["ipBlocks"], 6), NotIpBlocks: pick(vocabulary["ipBlocks"], 8),
	}
	if r.IntN(3) == 0 {
		s.ServiceAccounts, s.NotServiceAccounts = pick(vocabulary["serviceAccounts"], 2), pick(vocabulary["serviceAccounts"], 4)
	} else {
		s.Principals, s.NotPrincipals = pick(vocabulary["principals"], 3), pick(vocabulary["principals"], 5)
		s.Namespaces, s.NotNamespaces = pick(vocabulary["namespaces"], 3), pick(vocabulary["namespaces"], 5)
	}
	if len(alternative.SourceTests("", s)) > 0 {
		rule.From = []*securityv1beta1.Rule_From{{Source: s}}
	}
	o := &securityv1beta1.Operation{
		Methods: pick(vocabulary["methods"], 4), NotMethods: pick(vocabulary["methods"], 6), Paths: pick(vocabulary["paths"], 3), NotPaths: pick(vocabulary["paths"], 5),
		Hosts: pick(vocabulary["hosts"], 5), NotHosts: pick(vocabulary["hosts"], 8), Ports: pick(vocabulary["ports"], 8), NotPorts: pick(vocabulary["ports"], 8),
	}
	if len(alternative.OperationTests("", o)) > 0 {
		rule.To = []*securityv1beta1.Rule_To{{Operation: o}}
	}
	for _, key := range []string{"request.headers[x]", "request.auth.claims[groups]", "request.auth.audiences", "source.namespace", "source.principal", "request.headers[:path]", "destination.port", "connection.sni"} {
		c := &securityv1beta1.Condition{Key: key, Values: pick(conditions[key], 10), NotValues: pick(conditions[key], 10)}
		if len(c.Values)+len(c.NotValues) > 0 {
			rule.When = append(rule.When, c)
		}
	}
	return rule
}
