package alternative

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	securityv1beta1 "istio.io/api/security/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/gowaypoint/gowaypoint/authz/istio"
)

// Dimension is an attribute of a request that tests can be about. Kind says which, Name which one of several.
type Dimension struct {
	Kind Kind
	Name string // of the header (in lower case), of the claim (nested ones as a][b), or filter[key]; else ""
}

// Kind of a dimension.
type Kind string

// The kinds of attributes, in the words of reports.
const (
	Source        Kind = "source" // the client's identity: trust domain, namespace, service account
	SourceIP      Kind = "source IP"
	RemoteIP      Kind = "remote IP"
	Token         Kind = "token" // issuer and subject of the JSON web token
	Claim         Kind = "claim"
	Method        Kind = "method"
	Host          Kind = "host"
	Path          Kind = "path"
	Port          Kind = "port"
	Head          Kind = "header"
	DestinationIP Kind = "destination IP"
	ServerName    Kind = "server name"
	Metadata      Kind = "metadata"
	Unknown       Kind = "unknown" // a condition on what is not an attribute
)

func (d Dimension) String() string {
	if d.Name == "" {
		return string(d.Kind)
	}
	return string(d.Kind) + " " + strings.ReplaceAll(d.Name, "][", ".")
}

// pairs of the positive and the negative field of a source and of an operation.
var (
	sourcePairs = []pair{
		{"principals", "notPrincipals", Source}, {"requestPrincipals", "notRequestPrincipals", Token},
		{"namespaces", "notNamespaces", Source}, {"serviceAccounts", "notServiceAccounts", Source},
		{"trustDomains", "notTrustDomains", Source}, {"ipBlocks", "notIpBlocks", SourceIP}, {"remoteIpBlocks", "notRemoteIpBlocks", RemoteIP},
	}
	operationPairs = []pair{
		{"hosts", "notHosts", Host}, {"methods", "notMethods", Method}, {"paths", "notPaths", Path}, {"ports", "notPorts", Port},
	}
)

type pair struct {
	name, not string
	kind      Kind
}

// SourceTests are the tests of one source that stands at a field.
func SourceTests(at string, s *securityv1beta1.Source) []Test {
	return fromPairs(at, s.ProtoReflect(), sourcePairs)
}

// OperationTests are the tests of one operation that stands at a field.
func OperationTests(at string, o *securityv1beta1.Operation) []Test {
	return fromPairs(at, o.ProtoReflect(), operationPairs)
}

// ConditionTests are the tests of the conditions of the rule that stands at a field.
func ConditionTests(at string, when []*securityv1beta1.Condition) []Test {
	var out []Test
	for i, c := range when {
		d := DimensionOf(c.GetKey())
		out = append(out, Test{
			Name: c.GetKey(), Dimension: d, HTTP: d.HTTP(), Values: c.GetValues(), Not: c.GetNotValues(),
			Field: fmt.Sprintf("%s.when[%d].values", at, i), NotField: fmt.Sprintf("%s.when[%d].notValues", at, i),
		})
	}
	return out
}

func fromPairs(at string, m protoreflect.Message, pairs []pair) []Test {
	var out []Test
	for _, p := range pairs {
		t := Test{
			Name: p.name, Dimension: Dimension{Kind: p.kind}, Field: at + "." + p.name, NotField: at + "." + p.not,
			Values: stringsOf(m, p.name), Not: stringsOf(m, p.not),
		}
		t.HTTP = t.Dimension.HTTP()
		if len(t.Values)+len(t.Not) > 0 {
			out = append(out, t)
		}
	}
	return out
}

func stringsOf(m protoreflect.Message, field string) []string {
	var out []string
	list := m.Get(m.Descriptor().Fields().ByJSONName(field)).List()
	for i := range list.Len() {
		out = append(out, list.Get(i).String())
	}
	return out
}

// HTTP reports whether only HTTP requests have the attribute.
func (d Dimension) HTTP() bool {
	switch d.Kind {
	case Token, Claim, Method, Host, Path, Head:
		return true
	}
	return false
}

// DimensionOf says which attribute a condition's key is about.
func DimensionOf(key string) Dimension {
	name, sub, _ := strings.Cut(key, "[")
	sub = strings.TrimSuffix(sub, "]")
	switch {
	case key == "source.principal", key == "source.namespace", key == "source.serviceAccount", key == "source.trustDomain":
		return Dimension{Kind: Source}
	case key == "source.ip":
		return Dimension{Kind: SourceIP}
	case key == "remote.ip":
		return Dimension{Kind: RemoteIP}
	case key == "request.auth.principal":
		return Dimension{Kind: Token}
	case key == "request.auth.audiences":
		return Dimension{Claim, "aud"}
	case key == "request.auth.presenter":
		return Dimension{Claim, "azp"}
	case name == "request.auth.claims" && (sub == "iss" || sub == "sub"):
		return Dimension{Kind: Token}
	case name == "request.auth.claims":
		return Dimension{Claim, sub}
	case name == "request.headers":
		switch sub = strings.ToLower(sub); sub {
		case ":method":
			return Dimension{Kind: Method}
		case ":path":
			return Dimension{Kind: Path}
		case ":authority", "host":
			return Dimension{Kind: Host}
		}
		return Dimension{Head, sub}
	case key == "destination.ip":
		return Dimension{Kind: DestinationIP}
	case key == "destination.port":
		return Dimension{Kind: Port}
	case key == "connection.sni":
		return Dimension{Kind: ServerName}
	case strings.HasPrefix(key, "experimental.envoy.filters."):
		return Dimension{Metadata, strings.TrimPrefix(name, "experimental.") + "[" + sub + "]"}
	}
	return Dimension{Unknown, key}
}

// Compile compiles tests, all of which have to hold, as they would be in an ALLOW policy of the namespace.
func Compile(tests []Test, namespace string, t istio.Target) (Matcher, error) {
	rule := &securityv1beta1.Rule{}
	source, operation := &securityv1beta1.Source{}, &securityv1beta1.Operation{}
	for _, test := range tests {
		if p, ok := find(sourcePairs, test); ok {
			rule.From = []*securityv1beta1.Rule_From{{Source: source}}
			set(source.ProtoReflect(), p, test)
		} else if p, ok := find(operationPairs, test); ok {
			rule.To = []*securityv1beta1.Rule_To{{Operation: operation}}
			set(operation.ProtoReflect(), p, test)
		} else {
			rule.When = append(rule.When, &securityv1beta1.Condition{Key: test.Name, Values: test.Values, NotValues: test.Not})
		}
	}
	return matcher(namespace, rule, securityv1beta1.AuthorizationPolicy_ALLOW, t)
}

func find(pairs []pair, t Test) (pair, bool) {
	for _, p := range pairs {
		if p.name == t.Name {
			return p, true
		}
	}
	return pair{}, false
}

func set(m protoreflect.Message, p pair, t Test) {
	for field, values := range map[string][]string{p.name: t.Values, p.not: t.Not} {
		if len(values) == 0 {
			continue
		}
		list := m.Mutable(m.Descriptor().Fields().ByJSONName(field)).List()
		for _, v := range values {
			list.Append(protoreflect.ValueOfString(v))
		}
	}
}

func targetService(name string) []*typev1beta1.PolicyTargetReference {
	return []*typev1beta1.PolicyTargetReference{{Kind: "Service", Name: name}}
}
