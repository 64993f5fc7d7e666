package main

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Media types of the OCI image specification.
const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

type options struct {
	binary   []byte
	ca       []byte // PEM; nil for none
	tag      string // repository:tag
	platform string // os/arch; "" is the binary's
	created  time.Time
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type config struct {
	Created      time.Time       `json:"created"`
	Architecture string          `json:"architecture"`
	OS           string          `json:"os"`
	Config       containerConfig `json:"config"`
	RootFS       rootFS          `json:"rootfs"`
	History      []history       `json:"history"`
}

type containerConfig struct {
	User       string
	Env        []string
	Entrypoint []string
	WorkingDir string
	Labels     map[string]string
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type history struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

// dockerManifest is an element of a docker archive's manifest.json.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// build returns the tarball.
func build(o options) ([]byte, error) {
	repository, version, err := splitTag(o.tag)
	if err != nil {
		return nil, err
	}
	arch, err := checkBinary(o.binary, o.platform)
	if err != nil {
		return nil, err
	}
	layer, diffID, err := layerOf(o)
	if err != nil {
		return nil, err
	}
	blobs := blobs{}
	layerAt := blobs.add(layerType, layer)
	configAt, err := blobs.addJSON(configType, config{
		Created: o.created.UTC(), Architecture: arch, OS: "linux",
		Config: containerConfig{
			User: "1337:1337", // Istio's proxy user: the pod says so too, and OpenShift may override it
			Env: []string{
				"PATH=/usr/local/bin:/usr/bin:/bin", // `kubectl exec … -- pilot-agent request` names no directory
				// Node metadata ISTIO_PROXY_SHA: what the proxy is, exactly.
				"ISTIO_META_ISTIO_PROXY_SHA=gowaypoint:" + hexDigest(o.binary),
			},
			Entrypoint: []string{"/usr/local/bin/pilot-agent"},
			WorkingDir: "/", // the agent's paths are relative to it
			Labels: map[string]string{
				"org.opencontainers.image.title": "gowaypoint", "org.opencontainers.image.version": version,
				"org.opencontainers.image.source": "https://github.com/gowaypoint/gowaypoint", "org.opencontainers.image.licenses": "Apache-2.0",
			},
		},
		RootFS:  rootFS{Type: "layers", DiffIDs: []string{diffID}},
		History: []history{{Created: o.created.UTC(), CreatedBy: "gowaypoint charts/image"}},
	})
	if err != nil {
		return nil, err
	}
	manifestAt, err := blobs.addJSON(manifestType, manifest{SchemaVersion: 2, MediaType: manifestType, Config: configAt, Layers: []descriptor{layerAt}})
	if err != nil {
		return nil, err
	}
	manifestAt.Platform = &platform{Architecture: arch, OS: "linux"}
	manifestAt.Annotations = map[string]string{
		"org.opencontainers.image.ref.name": version,                               // skopeo, podman
		"io.containerd.image.name":          canonical(repository) + ":" + version, // ctr, kind
	}
	indexJSON, err := json.Marshal(index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{manifestAt}})
	if err != nil {
		return nil, err
	}
	dockerJSON, err := json.Marshal([]dockerManifest{{Config: blobPath(configAt.Digest), RepoTags: []string{o.tag}, Layers: []string{blobPath(layerAt.Digest)}}})
	if err != nil {
		return nil, err
	}
	files := []entry{
		{path: "oci-layout", mode: 0o644, data: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{path: "index.json", mode: 0o644, data: indexJSON},
		{path: "manifest.json", mode: 0o644, data: dockerJSON},
	}
	for digest, data := range blobs {
		files = append(files, entry{path: blobPath(digest), mode: 0o644, data: data})
	}
	var out bytes.Buffer
	if err := writeTar(&out, files, o.created); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// blobs are the contents by digest.
type blobs map[string][]byte

func (b blobs) add(mediaType string, data []byte) descriptor {
	digest := "sha256:" + hexDigest(data)
	b[digest] = data
	return descriptor{MediaType: mediaType, Digest: digest, Size: len(data)}
}

func (b blobs) addJSON(mediaType string, v any) (descriptor, error) {
	data, err := json.Marshal(v)
	return b.add(mediaType, data), err
}

func hexDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

// reference is the part of the grammar of image names that the checks below need: [host[:port]/]path[/path…]:tag.
var reference = regexp.MustCompile(`^([a-zA-Z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// splitTag separates the version from the repository. A name without a slash is refused: istiod uses the annotation
// sidecar.istio.io/proxyImage only if it has one, and would run Envoy without a word.
func splitTag(tag string) (repository, version string, err error) {
	if !reference.MatchString(tag) {
		return "", "", fmt.Errorf("-tag %q: want repository:tag, e.g. registry.example/gowaypoint/waypoint:0.1.0", tag)
	}
	i := strings.LastIndex(tag, ":")
	if !strings.Contains(tag[:i], "/") {
		return "", "", fmt.Errorf("-tag %q has no slash: istiod would ignore such a name in sidecar.istio.io/proxyImage; put a registry or an organisation before it", tag)
	}
	return tag[:i], tag[i+1:], nil
}

// canonical puts Docker's registry before a repository that names none, as containerd wants it.
func canonical(repository string) string {
	host, _, _ := strings.Cut(repository, "/")
	if host == "localhost" || strings.ContainsAny(host, ".:") {
		return repository
	}
	return "docker.io/" + repository
}

// machines are the platforms that the project is built for.
var machines = map[elf.Machine]string{elf.EM_X86_64: "linux/amd64", elf.EM_AARCH64: "linux/arm64"}

// checkBinary returns the binary's architecture if it can run in the image, which has no loader and no libc, and on platform, if that is given.
func checkBinary(binary []byte, platform string) (string, error) {
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		return "", fmt.Errorf("-binary: not a Linux binary: %w", err)
	}
	is, ok := machines[f.Machine]
	if !ok {
		return "", fmt.Errorf("-binary is for %s: want linux/amd64 or linux/arm64", f.Machine)
	}
	if platform != "" && platform != is {
		return "", fmt.Errorf("-binary is for %s, -platform is %s: build it with GOOS and GOARCH set", is, platform)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", errors.New("-binary is linked dynamically and would not start in the image: build it with CGO_ENABLED=0")
		}
	}
	return strings.TrimPrefix(is, "linux/"), nil
}
