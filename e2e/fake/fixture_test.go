package fake

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	istiolog "istio.io/istio/pkg/log"
)

func TestMain(m *testing.M) {
	for _, s := range istiolog.Scopes() { // istiod has much to say
		s.SetOutputLevel(istiolog.NoneLevel)
	}
	code := m.Run()
	_ = os.Remove(AccessLog()) // there may be none
	os.Exit(code)
}

// TestFixtures carries out testdata/*.txt.
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	must(t, err)
	if len(files) < 40 {
		t.Errorf("%d fixtures", len(files))
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			runFixture(t, path)
		})
	}
}
