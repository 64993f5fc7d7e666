package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

const (
	fileCertPrefix = "file-cert:"
	fileRootPrefix = "file-root:"
	systemRoots    = "file-root:system"
)

func isFileName(name string) bool {
	return strings.HasPrefix(name, fileCertPrefix) || strings.HasPrefix(name, fileRootPrefix)
}

// systemBundles are the places of the operating system's CA bundle, as Istio's agent looks for them.
var systemBundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Alpine, distroless
	"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, RHEL
	"/etc/ssl/ca-bundle.pem",             // OpenSUSE
	"/etc/pki/tls/cacert.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/cert.pem", // Alpine, BSD
}

// startFile loads a file secret and watches its files. A failure keeps the last good version, or keeps
// the name not ready when there was none; either way the next change of the files tries again.
func (s *Store) startFile(e *entry) {
	paths, err := filePaths(e.name)
	if err != nil {
		e.why.Store(&err)
		return
	}
	for i, p := range paths {
		paths[i] = underRoot(s.root, p)
	}
	load := func() {
		if err := s.loadFile(e, paths); err != nil {
			if e.current.Load() == nil {
				e.why.Store(&err)
			}
			s.log.Warn("secret could not be read from its files", "secret", e.name, "error", err,
				"kept", e.current.Load() != nil)
		}
	}
	load()
	s.files.watch(paths, load)
}

// filePaths splits a file secret's name: "file-cert:<cert>~<key>" or "file-root:<ca>".
func filePaths(name string) ([]string, error) {
	if name == systemRoots {
		return systemBundles, nil
	}
	if ca, ok := strings.CutPrefix(name, fileRootPrefix); ok {
		if ca == "" {
			return nil, errors.New("names no file; want file-root:<ca>")
		}
		return []string{ca}, nil
	}
	cert, key, ok := strings.Cut(strings.TrimPrefix(name, fileCertPrefix), "~")
	if !ok || cert == "" || key == "" {
		return nil, errors.New("names no pair of files; want file-cert:<certificate>~<key>")
	}
	return []string{cert, key}, nil
}

func (s *Store) loadFile(e *entry, paths []string) error {
	switch {
	case e.name == systemRoots:
		for _, p := range paths {
			if pem, err := readFile(s.root, p); err == nil {
				return s.setLocal(e.name, contentVersion(pem), anchorSecret(e.name, parsablePEM(pem), nil))
			}
		}
		return fmt.Errorf("no CA bundle of the operating system found in %s; the image needs one", strings.Join(paths, ", "))
	case len(paths) == 1:
		pem, err := readFile(s.root, paths[0])
		if err != nil {
			return err
		}
		return s.setLocal(e.name, contentVersion(pem), anchorSecret(e.name, pem, nil))
	}
	chain, err := readFile(s.root, paths[0])
	if err != nil {
		return err
	}
	key, err := readFile(s.root, paths[1])
	if err != nil {
		return err
	}
	return s.setLocal(e.name, contentVersion(chain), certificateSecret(e.name, chain, key))
}

// parsablePEM drops from an operating system's bundle the certificates that crypto/x509 refuses (a few
// old roots have negative serial numbers); one odd root must not disable all others.
func parsablePEM(data []byte) []byte {
	var out bytes.Buffer
	for _, block := range pemBlocks(data) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err == nil {
			out.Write(pem.EncodeToMemory(block))
		}
	}
	return out.Bytes()
}
