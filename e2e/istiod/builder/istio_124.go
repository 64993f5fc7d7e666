//go:build istio124

package builder

import "istio.io/istio/pkg/config/mesh"

type watcher = mesh.Watcher

func multipleProviders(bool) {} // came later: one provider at most
