//go:build envoy

package conformance

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/gowaypoint/gowaypoint/e2e/bench/mesh"
	"github.com/gowaypoint/gowaypoint/e2e/bench/subject"
	"github.com/gowaypoint/gowaypoint/e2e/envoy"
)

// Envoy's column is what Envoy does, and in no case lets ours more through.
func TestSmugglingBesideEnvoy(t *testing.T) {
	intro, cases := readSmuggling(t)
	r := &recorder{}
	n := start(t, istioEnvoy(), "127.9.24", r.serve)
	for i, got := range smuggle(t, n, r, cases) {
		c := cases[i]
		if *update {
			c.envoy = got
		} else if !slices.Equal(got, c.envoy) {
			t.Errorf("%s: Envoy has\n%s\nthe file has\n%s", c.title, strings.Join(got, "\n"), strings.Join(c.envoy, "\n"))
		}
		if ours, theirs := passed(c.ours), passed(c.envoy); ours > theirs {
			t.Errorf("%s: %d requests reach the pod through us, %d through Envoy", c.title, ours, theirs)
		}
	}
	for _, problem := range r.ambiguous() {
		t.Log("Envoy: ", problem)
	}
	if *update {
		writeSmuggling(t, intro, cases)
	}
}

// istioEnvoy is the stock Envoy with the runtime flag of Istio's bootstrap that matters here (pkg/bootstrap/config.go): a fragment
// is cut off the path, where Envoy alone refuses the request.
func istioEnvoy() subject.Subject {
	return subject.Subject{Name: "envoy", Start: func(ctx context.Context, s subject.Setup) (subject.Proxy, error) {
		r, err := s.Config.Resources()
		if err != nil {
			return nil, err
		}
		text, err := mesh.Envoy(r, s.Identity)
		if err != nil {
			return nil, err
		}
		var bootstrap map[string]any
		if err := json.Unmarshal(text, &bootstrap); err != nil {
			return nil, err
		}
		bootstrap["layered_runtime"] = map[string]any{"layers": []any{map[string]any{
			"name": "istio", "static_layer": map[string]any{"envoy.reloadable_features.http_reject_path_with_fragment": false}}}}
		if text, err = json.Marshal(bootstrap); err != nil {
			return nil, err
		}
		return envoy.Start(ctx, envoy.Config{Bootstrap: text})
	}}
}

// passed counts the requests that reached the pod.
func passed(lines []string) (n int) {
	for _, l := range lines {
		if strings.Contains(l, ", body ") || strings.Contains(l, ", not a request") {
			n++
		}
	}
	return n
}
