module github.com/gowaypoint/gowaypoint/e2e

go 1.26.0

replace github.com/gowaypoint/gowaypoint => ..

require (
	github.com/gowaypoint/gowaypoint v0.0.0-00010101000000-000000000000
	istio.io/istio v0.0.0-20260827124520-eed52ebb66ad
	istio.io/api v1.31.4
	k8s.io/api v0.36.1
	k8s.io/apimachinery v0.36.1
	k8s.io/client-go v0.36.1
	k8s.io/streaming v0.36.1
	golang.org/x/net v0.62.0
	golang.org/x/sys v0.49.0
	google.golang.org/grpc v1.85.0
	sigs.k8s.io/yaml v1.6.0
)
