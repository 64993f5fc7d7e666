// Package manifest reads what a mesh is configured with, from files, for evaluating policy offline.
//
//	set, err := manifest.Load([]string{"policies/"}, manifest.Options{})
//	target, err := set.Target(manifest.Choice{For: "Service/shop/cart"})
//	rules, err := istio.Compile(set.IstioPolicies(), target.Target)
//
// This package is under x/: its API may change in any release.
//
// # What it reads
//
//   - Kubernetes objects in YAML or JSON: streams of documents, `kubectl get -o yaml` lists (List and AuthorizationPolicyList),
//     directories with all their subdirectories (files *.yaml, *.yml and *.json; hidden ones are passed over), and "-" for
//     standard input.
//   - Envoy's config_dump and `istioctl proxy-config listener -o json`: the RBAC filters of each filter chain.
//
// Policies are AuthorizationPolicy and RequestAuthentication. Around them it looks at Namespace, Service, ServiceEntry, Gateway,
// Pod and what makes pods (to tell who enforces what), and at MeshConfig (in the ConfigMap istio, an IstioOperator, or alone).
// Objects of other kinds are listed in [Set.Ignored].
//
// # What is an error
//
// An unknown field, a value of the wrong type, a name that is defined twice, a document that is no object. Errors name file,
// line, document, object and field, and all errors of all files come together, as [Errors]. A policy that was half understood
// is never in a Set: Load returns none when there is an error.
//
// YAML is read as Kubernetes does, so a plain yes, no, on or off is a boolean, and a port in a list of strings wants quotes.
package manifest
