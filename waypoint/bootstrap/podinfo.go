package bootstrap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// parsePodInfo reads a downward-API file: one `key="escaped value"` per line, the value quoted as Go
// quotes strings (Kubernetes prints it with %q). Lines without `=` are skipped.
func parsePodInfo(text string) (map[string]string, error) {
	out := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		key, quoted, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		value, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("line %d, key %q: the value is not quoted: %s", i+1, key, quoted)
		}
		out[key] = value
	}
	return out, nil
}

// readPodInfo reads ./etc/istio/pod/<name>; nil when the file does not exist.
func readPodInfo(root, name string) (map[string]string, error) {
	path := filepath.Join(root, "etc/istio/pod", name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := parsePodInfo(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}
