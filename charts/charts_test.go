package charts

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The chart, the image that it names and the program are released under one version.
func TestVersions(t *testing.T) {
	found := map[string][]string{}
	for file, pattern := range map[string]string{
		"charts/waypoint/Chart.yaml": `(?m)^appVersion: (.*)$`,
		"cmd/waypoint/version.go":    `(?m)^var version = "(.*)"$`,
		"Makefile":                   `(?m)^VERSION \?= (.*)$`,
	} {
		raw, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(pattern).FindSubmatch(raw)
		if m == nil {
			t.Fatalf("%s has no %s", file, pattern)
		}
		found[string(m[1])] = append(found[string(m[1])], file)
	}
	if len(found) != 1 {
		t.Errorf("versions differ: %v", found)
	}
}

func TestEmbedsHelpers(t *testing.T) {
	for _, name := range []string{"Chart.yaml", "values.schema.json", "templates/_helpers.tpl", ".helmignore"} {
		if _, err := fs.Stat(Waypoint(), name); err != nil {
			t.Error(err)
		}
	}
}
