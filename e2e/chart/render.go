package chart

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chartv2 "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Rendered is what `helm install` would print and send.
type Rendered struct {
	Manifests []string // one object each, in the order of the template's name and then of the waypoints
	Notes     string
}

// Render renders a chart, the files of its directory, for a release in namespace. Values is YAML; "" takes the defaults. Errors are Helm's: the schema's,
// and those of the chart's own checks.
func Render(dir fs.FS, release, namespace, values string) (Rendered, error) {
	loaded, err := load(dir)
	if err != nil {
		return Rendered{}, err
	}
	given := map[string]any{}
	if err := yaml.UnmarshalStrict([]byte(values), &given); err != nil {
		return Rendered{}, fmt.Errorf("values: %w", err)
	}
	top, err := util.ToRenderValues(loaded, given, common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}, nil)
	if err != nil {
		return Rendered{}, err
	}
	files, err := engine.Engine{Strict: true}.Render(loaded, top)
	if err != nil {
		return Rendered{}, err
	}
	var out Rendered
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if path.Base(name) == "NOTES.txt" {
			out.Notes = files[name]
			continue
		}
		documents := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(files[name])))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return Rendered{}, fmt.Errorf("%s: %w", name, err)
			}
			if text := strings.TrimSpace(string(bytes.TrimPrefix(bytes.TrimSpace(document), []byte("---")))); text != "" {
				out.Manifests = append(out.Manifests, text)
			}
		}
	}
	return out, nil
}

func load(dir fs.FS) (*chartv2.Chart, error) {
	var files []*archive.BufferedFile
	err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(dir, name)
		files = append(files, &archive.BufferedFile{Name: name, Data: data})
		return err
	})
	if err != nil {
		return nil, err
	}
	return loader.LoadFiles(files)
}
