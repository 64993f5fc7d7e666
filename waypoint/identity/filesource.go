package identity

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
)

// fileSource takes the certificate from mounted files that something else renews.
type fileSource struct {
	dir       string // absolute or relative to the process
	log       *slog.Logger
	outputDir string
	root      string
}

func newFileSource(c SourceConfig, dir string) *fileSource {
	return &fileSource{dir: filepath.Join(c.Root, dir), log: c.Log, outputDir: outputDir(c), root: c.Root}
}

func outputDir(c SourceConfig) string {
	if c.OutputDir == "" {
		return ""
	}
	return underRoot(c.Root, c.OutputDir)
}

func (f *fileSource) String() string { return "files in " + f.dir }

// Run loads the files and again whenever they change. A state in between, such as a new certificate with
// the old key, does not parse as a pair and leaves the former one in force.
func (f *fileSource) Run(ctx context.Context, store *Store) error {
	watchCRL(f.root, f.log, store)
	load := func() {
		if ctx.Err() != nil {
			return
		}
		if err := f.load(store); err != nil {
			f.log.Error("workload certificate not loaded, the former one stays", "dir", f.dir, "error", err)
		}
	}
	load()
	paths := []string{f.path(certChainFile), f.path(keyFile), f.path(rootCertFile)}
	store.files.watch(paths, load)
	<-ctx.Done()
	return ctx.Err()
}

func (f *fileSource) path(name string) string { return filepath.Join(f.dir, name) }

func (f *fileSource) load(store *Store) error {
	var files [3][]byte
	for i, name := range []string{certChainFile, keyFile, rootCertFile} {
		var err error
		if files[i], err = readFile(".", f.path(name)); err != nil {
			return err
		}
	}
	if err := store.SetWorkload(files[0], files[1]); err != nil {
		return err
	}
	if err := store.SetAnchors(files[2]); err != nil {
		return err
	}
	if f.outputDir == "" {
		return nil
	}
	if err := writeCertificates(f.outputDir, files[0], files[1], files[2]); err != nil {
		return fmt.Errorf("OUTPUT_CERTS: %w", err)
	}
	return nil
}
