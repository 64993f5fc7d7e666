package identity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// maxSecretFile bounds a secret read from disk. The largest real one, an operating system's CA bundle,
// is about 250 KiB; a mistaken path must not fill the memory.
const maxSecretFile = 4 << 20

// readFile reads a file under root: relative paths start there, absolute ones are taken as they are.
func readFile(root, path string) ([]byte, error) {
	path = underRoot(root, path)
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if st.Size() > maxSecretFile {
		return nil, fmt.Errorf("%s has %d bytes; a certificate file may have %d", path, st.Size(), maxSecretFile)
	}
	return os.ReadFile(path)
}

func underRoot(root, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(root, path)
}

// dataSource returns the bytes that an envoy.config.core.v3.DataSource points to; nil when it is unset.
func dataSource(root string, ds *corev3.DataSource) ([]byte, error) {
	switch s := ds.GetSpecifier().(type) {
	case nil:
		return nil, nil
	case *corev3.DataSource_InlineBytes:
		return s.InlineBytes, nil
	case *corev3.DataSource_InlineString:
		return []byte(s.InlineString), nil
	case *corev3.DataSource_Filename:
		return readFile(root, s.Filename)
	case *corev3.DataSource_EnvironmentVariable:
		v, ok := os.LookupEnv(s.EnvironmentVariable)
		if !ok {
			return nil, fmt.Errorf("environment variable %s is not set", s.EnvironmentVariable)
		}
		return []byte(v), nil
	}
	return nil, errors.New("unknown kind of data source")
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}
