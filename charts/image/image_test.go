package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// compile builds a tiny program for a platform, and returns its file.
func compile(t *testing.T, goarch, goos string) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() { println(\"I am the agent\") }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "tiny")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", out, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

type file struct {
	header *tar.Header
	data   []byte
}

func untar(t *testing.T, raw []byte) (files map[string]file, names []string) {
	t.Helper()
	files = map[string]file{}
	r := tar.NewReader(bytes.NewReader(raw))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, names
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := files[h.Name]; ok {
			t.Errorf("%s is there twice", h.Name)
		}
		if h.Typeflag == tar.TypeLink {
			if _, ok := files[h.Linkname]; !ok {
				t.Errorf("%s links to %s, which does not come before it", h.Name, h.Linkname)
			}
		}
		files[h.Name], names = file{h, data}, append(names, h.Name)
	}
}

// follow returns a blob after checking it against its descriptor.
func follow(t *testing.T, files map[string]file, d descriptor, mediaType string) []byte {
	t.Helper()
	f, ok := files[blobPath(d.Digest)]
	if !ok {
		t.Fatalf("there is no blob %s", d.Digest)
	}
	if d.MediaType != mediaType || d.Size != len(f.data) || d.Digest != "sha256:"+hexDigest(f.data) {
		t.Fatalf("the blob of %+v has %d bytes of digest %s", d, len(f.data), hexDigest(f.data))
	}
	return f.data
}

func parse[T any](t *testing.T, data []byte) T {
	t.Helper()
	var v T
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return v
}

// The image is read back as a runtime reads it, from each of its tables of contents.
func TestImage(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			binary, dir := compile(t, arch, "linux"), t.TempDir()
			ca := filepath.Join(dir, "ca.pem")
			if err := os.WriteFile(ca, []byte("certificates"), 0o600); err != nil {
				t.Fatal(err)
			}
			args := func(out string) []string {
				return []string{"-binary", binary, "-tag", "gowaypoint/waypoint:1.2.3", "-platform", "linux/" + arch, "-ca", ca, "-out", out}
			}
			first, second := filepath.Join(dir, "1.tar"), filepath.Join(dir, "2.tar")
			if err := run(args(first), "1700000000"); err != nil {
				t.Fatal(err)
			}
			// The input's own times and modes are not in the image.
			later := time.Now().Add(time.Hour)
			if err := errors.Join(os.Chtimes(binary, later, later), os.Chmod(binary, 0o700), run(args(second), "1700000000")); err != nil {
				t.Fatal(err)
			}
			raw, again := read(t, first), read(t, second)
			if !bytes.Equal(raw, again) {
				t.Error("two runs give different bytes")
			}

			files, names := untar(t, raw)
			if !slices.IsSorted(names) {
				t.Errorf("not sorted: %v", names)
			}
			if got := string(files["oci-layout"].data); got != `{"imageLayoutVersion":"1.0.0"}` {
				t.Errorf("oci-layout %s", got)
			}
			ix := parse[index](t, files["index.json"].data)
			if len(ix.Manifests) != 1 || ix.SchemaVersion != 2 || ix.MediaType != indexType {
				t.Fatalf("index %+v", ix)
			}
			at := ix.Manifests[0]
			if *at.Platform != (platform{arch, "linux"}) || at.Annotations["org.opencontainers.image.ref.name"] != "1.2.3" ||
				at.Annotations["io.containerd.image.name"] != "docker.io/gowaypoint/waypoint:1.2.3" {
				t.Errorf("index entry %+v", at)
			}
			m := parse[manifest](t, follow(t, files, at, manifestType))
			if len(m.Layers) != 1 {
				t.Fatalf("%d layers", len(m.Layers))
			}
			c := parse[config](t, follow(t, files, m.Config, configType))
			packed := follow(t, files, m.Layers[0], layerType)
			docker := parse[[]dockerManifest](t, files["manifest.json"].data)
			if len(docker) != 1 || docker[0].Config != blobPath(m.Config.Digest) || !slices.Equal(docker[0].Layers, []string{blobPath(m.Layers[0].Digest)}) ||
				!slices.Equal(docker[0].RepoTags, []string{"gowaypoint/waypoint:1.2.3"}) {
				t.Errorf("manifest.json %+v", docker)
			}

			content := read(t, binary)
			checkConfig(t, c, arch, content)
			zip, err := gzip.NewReader(bytes.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			layer, err := io.ReadAll(zip)
			if err != nil {
				t.Fatal(err)
			}
			if want := []string{"sha256:" + hexDigest(layer)}; c.RootFS.Type != "layers" || !slices.Equal(c.RootFS.DiffIDs, want) {
				t.Errorf("rootfs %+v, want diff ids %v", c.RootFS, want)
			}
			checkLayer(t, layer, content)
		})
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func checkConfig(t *testing.T, c config, arch string, binary []byte) {
	t.Helper()
	if c.OS != "linux" || c.Architecture != arch || !c.Created.Equal(time.Unix(1700000000, 0)) || len(c.History) != 1 {
		t.Errorf("config %+v", c)
	}
	r := c.Config
	if r.User != "1337:1337" || r.WorkingDir != "/" || !slices.Equal(r.Entrypoint, []string{"/usr/local/bin/pilot-agent"}) {
		t.Errorf("config %+v", r)
	}
	if !slices.Contains(r.Env, "ISTIO_META_ISTIO_PROXY_SHA=gowaypoint:"+hexDigest(binary)) || !slices.ContainsFunc(r.Env, func(e string) bool {
		return strings.HasPrefix(e, "PATH=/usr/local/bin:")
	}) {
		t.Errorf("env %v", r.Env)
	}
	if r.Labels["org.opencontainers.image.version"] != "1.2.3" {
		t.Errorf("labels %v", r.Labels)
	}
}

func checkLayer(t *testing.T, layer, binary []byte) {
	t.Helper()
	files, names := untar(t, layer)
	if !slices.IsSorted(names) {
		t.Errorf("not sorted: %v", names)
	}
	for _, name := range names {
		h := files[name].header
		if !h.ModTime.Equal(time.Unix(1700000000, 0)) || h.Uname != "" || h.Gname != "" {
			t.Errorf("%s: %v %q %q", name, h.ModTime, h.Uname, h.Gname)
		}
	}
	for name, want := range map[string]struct {
		kind     byte
		mode     int64
		uid, gid int
		data     string
	}{
		"usr/":                                 {tar.TypeDir, 0o755, 0, 0, ""},
		"usr/local/bin/pilot-agent":            {tar.TypeReg, 0o755, 0, 0, string(binary)},
		"usr/local/bin/waypoint":               {tar.TypeLink, 0o755, 0, 0, ""},
		"etc/ssl/certs/ca-certificates.crt":    {tar.TypeReg, 0o644, 0, 0, "certificates"},
		"etc/istio/proxy/":                     {tar.TypeDir, 0o775, 1337, 0, ""},
		"etc/istio/pod/":                       {tar.TypeDir, 0o755, 0, 0, ""},
		"var/lib/istio/data/":                  {tar.TypeDir, 0o775, 1337, 0, ""},
		"var/run/secrets/istio/":               {tar.TypeDir, 0o755, 0, 0, ""},
		"var/run/secrets/tokens/":              {tar.TypeDir, 0o755, 0, 0, ""},
		"var/run/secrets/workload-spiffe-uds/": {tar.TypeDir, 0o775, 1337, 0, ""},
		"tmp/":                                 {tar.TypeDir, 0o1777, 0, 0, ""},
	} {
		f, ok := files[name]
		if !ok {
			t.Errorf("there is no %s", name)
			continue
		}
		h := f.header
		if h.Typeflag != want.kind || h.Mode != want.mode || h.Uid != want.uid || h.Gid != want.gid || string(f.data) != want.data {
			t.Errorf("%s: type %c, mode %o, owner %d:%d, %d bytes", name, h.Typeflag, h.Mode, h.Uid, h.Gid, len(f.data))
		}
	}
	if files["usr/local/bin/waypoint"].header.Linkname != "usr/local/bin/pilot-agent" {
		t.Error("waypoint is a link to", files["usr/local/bin/waypoint"].header.Linkname)
	}
	if !strings.Contains(string(files["etc/passwd"].data), "istio-proxy:x:1337:1337:") || !strings.Contains(string(files["etc/group"].data), "istio-proxy:x:1337:") {
		t.Error("nobody is called istio-proxy")
	}
}

// What would make an image that does not start, or that istiod does not take, is refused with the flag's name.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	amd64, windows := compile(t, "amd64", "linux"), compile(t, "amd64", "windows")
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "image.tar")
	good := map[string]string{"-binary": amd64, "-tag": "a/b:1", "-out": out, "-ca": ""}
	for name, tc := range map[string]struct {
		flag, value, want string
	}{
		"no binary":            {"-binary", "", "-binary is needed"},
		"missing binary":       {"-binary", filepath.Join(dir, "none"), "no such file"},
		"a script":             {"-binary", script, "not a Linux binary"},
		"for Windows":          {"-binary", windows, "not a Linux binary"},
		"other architecture":   {"-platform", "linux/arm64", "-binary is for linux/amd64"},
		"unknown architecture": {"-platform", "linux/s390x", "-platform is linux/s390x"},
		"no tag":               {"-tag", "a/b", "want repository:tag"},
		"tag of a port":        {"-tag", "registry.example:5000/b", "want repository:tag"},
		"no slash":             {"-tag", "waypoint:1", "has no slash"},
		"upper case":           {"-tag", "registry.example/A/b:1", "want repository:tag"},
		"missing CA bundle":    {"-ca", filepath.Join(dir, "none"), "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			var args []string
			for k, v := range good {
				if k != tc.flag {
					args = append(args, k, v)
				}
			}
			err := run(append(args, tc.flag, tc.value), "")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
	if err := run([]string{"-binary", amd64, "-tag", "a/b:1", "-out", out, "-ca", ""}, "yesterday"); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a refused image was written")
	}
	if err := run([]string{"-binary", amd64, "-tag", "registry.example:5000/b:1", "-out", out, "-ca", ""}, ""); err != nil {
		t.Fatal(err)
	}
	files, _ := untar(t, read(t, out))
	at := parse[index](t, files["index.json"].data).Manifests[0]
	if name := at.Annotations["io.containerd.image.name"]; name != "registry.example:5000/b:1" || *at.Platform != (platform{"amd64", "linux"}) {
		t.Errorf("containerd's name is %s, platform %v", name, at.Platform)
	}
}

// A binary with an interpreter needs a loader that the image has not got.
func TestDynamicBinaryIsRefused(t *testing.T) {
	binary, err := os.ReadFile(compile(t, "amd64", "linux"))
	if err != nil {
		t.Fatal(err)
	}
	// The first program header of the file becomes PT_INTERP (3): its type is the first word there (ELF64, little endian).
	offset := int(binary[0x20]) | int(binary[0x21])<<8
	binary[offset] = 3
	if _, err := checkBinary(binary, "linux/amd64"); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("error %v", err)
	}
}

// A later entry may link to an earlier one only.
func TestLinkBeforeTarget(t *testing.T) {
	err := writeTar(io.Discard, []entry{{path: "a", link: "b"}, {path: "b"}}, time.Unix(0, 0))
	if err == nil {
		t.Error("accepted")
	}
}
