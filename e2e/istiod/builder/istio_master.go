//go:build !istio127 && !istio124

package builder

import (
	"istio.io/istio/pilot/pkg/features"
	"istio.io/istio/pilot/pkg/model"
)

type watcher = model.Watcher

func multipleProviders(on bool) { features.EnableMultipleCustomAuthzProviders = on }
