// Package manifests reads Kubernetes manifests, as kubectl takes them, into what the demo's control plane needs to know.
//
//	mesh, err := manifests.Load(files)
//
// The kinds are Namespace, ServiceAccount, Service, Deployment, Pod, Gateway (class istio-waypoint), HTTPRoute and
// AuthorizationPolicy. Nothing is left out in silence: a kind, a field or a value that the demo cannot honour is an error that
// names file, document and field. Fields of pods that cannot matter here, such as images and probes, are the exception; they
// are named in types.go, one by one. The demo runs its own hello-world program for each pod.
//
// Addresses that the API server would assign are made of the object's name, so that they stay the same over reloads.
package manifests
