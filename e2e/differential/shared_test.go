//go:build envoy

package differential

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/gowaypoint/gowaypoint/e2e/differential/reference"
)

// start runs the Envoy that the tests share: they ask one after the other.
var start = sync.OnceValues(func() (*reference.Envoy, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return reference.Start(ctx)
})

func shared(t *testing.T) *reference.Envoy {
	t.Helper()
	e, err := start()
	if err != nil {
		t.Fatal(err)
	}
	running = e
	return e
}

var running *reference.Envoy

func TestMain(m *testing.M) {
	code := m.Run()
	if running != nil {
		running.Stop()
	}
	os.Exit(code)
}
