//go:build istio127

package builder

import "istio.io/istio/pilot/pkg/model"

type watcher = model.Watcher

func multipleProviders(bool) {} // came later: one provider at most
