package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
)

// entry is a directory (path ends in "/"), a hard link (link is set) or a file.
type entry struct {
	path     string
	mode     int64
	uid, gid int
	data     []byte
	link     string
}

const (
	proxyUser = 1337
	agent     = "usr/local/bin/pilot-agent"
)

// layerOf returns the image's only layer, compressed, and the digest of what is in it.
func layerOf(o options) (layer []byte, diffID string, err error) {
	files := []entry{
		{path: agent, mode: 0o755, data: o.binary},
		{path: "usr/local/bin/waypoint", mode: 0o755, link: agent},
		// Names for the ids, for tools that show them.
		{path: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/:/sbin/nologin\nistio-proxy:x:1337:1337:istio-proxy:/:/sbin/nologin\n")},
		{path: "etc/group", mode: 0o644, data: []byte("root:x:0:\nistio-proxy:x:1337:\n")},
		// Where the pod mounts volumes. Runtimes would make them, but not all on a read-only root. What is written to belongs to
		// the proxy and to group 0, which any user that OpenShift picks is in.
		{path: "etc/istio/config/", mode: 0o755},
		{path: "etc/istio/pod/", mode: 0o755},
		{path: "etc/istio/proxy/", mode: 0o775, uid: proxyUser},
		{path: "var/lib/istio/data/", mode: 0o775, uid: proxyUser},
		{path: "var/run/secrets/istio/", mode: 0o755},
		{path: "var/run/secrets/tokens/", mode: 0o755},
		{path: "var/run/secrets/credential-uds/", mode: 0o755},
		{path: "var/run/secrets/workload-spiffe-credentials/", mode: 0o755},
		{path: "var/run/secrets/workload-spiffe-uds/", mode: 0o775, uid: proxyUser},
		{path: "tmp/", mode: 0o1777},
	}
	if o.ca != nil {
		files = append(files, entry{path: strings.TrimPrefix(systemCA, "/"), mode: 0o644, data: o.ca})
	}
	var plain, packed bytes.Buffer
	if err := writeTar(&plain, files, o.created); err != nil {
		return nil, "", err
	}
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, "", err
	}
	if _, err := zip.Write(plain.Bytes()); err != nil {
		return nil, "", err
	}
	if err := zip.Close(); err != nil {
		return nil, "", err
	}
	return packed.Bytes(), "sha256:" + hexDigest(plain.Bytes()), nil
}

// writeTar writes the entries sorted by path, with the directories that lead to them before them. A link sorts after its target only if
// its name does, which writeTar checks: readers make links as they come.
func writeTar(w io.Writer, files []entry, modified time.Time) error {
	all := map[string]entry{}
	for _, f := range files {
		if _, ok := all[f.path]; ok {
			return fmt.Errorf("%s is there twice", f.path)
		}
		all[f.path] = f
	}
	for _, f := range files {
		for dir := path.Dir(strings.TrimSuffix(f.path, "/")); dir != "."; dir = path.Dir(dir) {
			if _, ok := all[dir+"/"]; !ok {
				all[dir+"/"] = entry{path: dir + "/", mode: 0o755}
			}
		}
	}
	sorted := make([]entry, 0, len(all))
	for _, f := range all {
		sorted = append(sorted, f)
	}
	slices.SortFunc(sorted, func(a, b entry) int { return strings.Compare(a.path, b.path) })

	out := tar.NewWriter(w)
	for _, f := range sorted {
		h := &tar.Header{Name: f.path, Mode: f.mode, Uid: f.uid, Gid: f.gid, Size: int64(len(f.data)), ModTime: modified, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		switch {
		case strings.HasSuffix(f.path, "/"):
			h.Typeflag = tar.TypeDir
		case f.link != "":
			if f.link >= f.path {
				return fmt.Errorf("link %s comes before its target %s", f.path, f.link)
			}
			h.Typeflag, h.Linkname = tar.TypeLink, f.link
		}
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		if _, err := out.Write(f.data); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return out.Close()
}
